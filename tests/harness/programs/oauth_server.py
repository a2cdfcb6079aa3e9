"""An MCP server behind an authorization server of its own, both made with the MCP SDK's server side.

``--port N --life S``: access tokens live S seconds. A refresh token is good for one use; one that comes twice ends the
whole grant, as RFC 9700 (4.14.2) wants it. Whoever asks for authorization gets it. ``/figures`` counts what happened.
"""

from __future__ import annotations

import argparse
import secrets
import time
from typing import Any

from mcp.server import MCPServer
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    RefreshToken,
    TokenError,
    construct_redirect_uri,
)
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from starlette.requests import Request
from starlette.responses import JSONResponse


class Grants:
    """The SDK's ``OAuthAuthorizationServerProvider``, in memory."""

    def __init__(self, life: float) -> None:
        self.life = life
        self.figures = {"refreshed": 0, "refused": 0, "reused": 0}
        self._clients: dict[str, OAuthClientInformationFull] = {}
        self._codes: dict[str, AuthorizationCode] = {}
        self._access: dict[str, tuple[AccessToken, float, str]] = {}
        self._refresh: dict[str, tuple[RefreshToken, str]] = {}
        self._used: dict[str, str] = {}

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self._clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self._clients[client_info.client_id or ""] = client_info

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        code = secrets.token_hex(16)
        self._codes[code] = AuthorizationCode(
            code=code,
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            client_id=client.client_id or "",
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
        )
        return construct_redirect_uri(str(params.redirect_uri), code=code, state=params.state)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self._codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self._codes[authorization_code.code]
        return self._issue(client.client_id or "", authorization_code.scopes, secrets.token_hex(8))

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> RefreshToken | None:
        if family := self._used.get(refresh_token):
            self.figures["reused"] += 1
            self._refresh = {token: kept for token, kept in self._refresh.items() if kept[1] != family}
        found = self._refresh.get(refresh_token)
        if found is None:
            self.figures["refused"] += 1
            return None
        return found[0]

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        try:
            _, family = self._refresh.pop(refresh_token.token)
        except KeyError:
            self.figures["refused"] += 1
            raise TokenError("invalid_grant", "it was used") from None
        self._used[refresh_token.token] = family
        self.figures["refreshed"] += 1
        return self._issue(client.client_id or "", refresh_token.scopes, family)

    async def load_access_token(self, token: str) -> AccessToken | None:
        found = self._access.get(token)
        return found[0] if found is not None and time.time() < found[1] else None

    async def revoke_token(self, token: Any) -> None:
        self._access.pop(token.token, None)

    def _issue(self, client: str, scopes: list[str], family: str) -> OAuthToken:
        access, refresh = secrets.token_hex(16), secrets.token_hex(16)
        self._access[access] = (
            AccessToken(token=access, client_id=client, scopes=scopes),
            time.time() + self.life,
            family,
        )
        self._refresh[refresh] = RefreshToken(token=refresh, client_id=client, scopes=scopes), family
        return OAuthToken(access_token=access, expires_in=int(self.life), refresh_token=refresh, scope=" ".join(scopes))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--life", type=float, default=2.0)
    options = parser.parse_args()
    import socket

    import uvicorn

    listener = socket.create_server(("127.0.0.1", options.port))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    grants = Grants(options.life)
    server = MCPServer(
        "guarded",
        auth_server_provider=grants,
        auth=AuthSettings(
            issuer_url=base,
            resource_server_url=f"{base}/mcp",
            validate_token_resource=False,
            client_registration_options=ClientRegistrationOptions(enabled=True),
        ),
    )

    @server.tool()
    def add(a: int, b: int) -> int:
        """The sum."""
        return a + b

    @server.custom_route("/figures", methods=["GET"])
    async def figures(request: Request) -> JSONResponse:
        return JSONResponse(grants.figures)

    uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
