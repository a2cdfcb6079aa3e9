"""Who may come in: Host, Origin and key are checked before all else; each refusal is an OpenAI error object."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from hermesd.adapters.api_server.openai import ApiProblem
from hermesd.adapters.api_server.options import Options
from hermesd.adapters.hosts import host_name, means_this_machine

PUBLIC = frozenset({"/health", "/v1/health"})
SESSION_HEADER = "X-Hermes-Session-Id"

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """The server's only middleware, with the header hook that also reaches streamed responses."""

    def __init__(self, options: Options):
        self._options = options

    def install(self, app: web.Application) -> None:
        app.middlewares.append(self._guard)
        app.on_response_prepare.append(self._headers)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check_host(request)
            self._check_origin(request)
            if request.method == "OPTIONS":
                return web.Response(status=204)
            self._check_key(request)
            return await handler(request)
        except ApiProblem as problem:
            return refusal(problem)
        except web.HTTPRequestEntityTooLarge:
            return refusal(too_large(self._options.max_body))
        except web.HTTPException as error:
            return refusal(ApiProblem(error.status, f"{request.method} {request.path}: {error.reason}"))
        except ConnectionError:
            raise
        except Exception:
            log.exception("the API server failed on %s %s", request.method, request.path)
            return refusal(ApiProblem(500, "hermesd failed on this request; its log says why", kind="server_error"))

    def _check_host(self, request: web.Request) -> None:
        """Only on loopback: a server on another address has a key that a web page does not know."""
        header = request.headers.get("Host", "")
        if self._options.on_loopback and not means_this_machine(header, self._options.allowed_hosts):
            host = host_name(header)
            raise ApiProblem(
                403,
                f"this server is not called {host!r}: use 127.0.0.1 or localhost, or add the name to "
                "platforms.api_server.extra.allowed_hosts",
                kind="permission_error",
                code="host_not_allowed",
            )

    def _check_origin(self, request: web.Request) -> None:
        origin = request.headers.get("Origin")
        if origin is not None and not self._allows(origin):
            raise ApiProblem(
                403,
                f"web pages of {origin!r} may not use this server: add the origin to "
                "platforms.api_server.extra.cors_origins (API_SERVER_CORS_ORIGINS)",
                kind="permission_error",
                code="origin_not_allowed",
            )

    def _check_key(self, request: web.Request) -> None:
        if not self._options.key or request.path in PUBLIC:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        given_bytes = given.strip().encode("utf-8", "surrogateescape")
        right = hmac.compare_digest(given_bytes, self._options.key.encode())
        if scheme.lower() != "bearer" or not right:
            raise ApiProblem(
                401,
                "the API key is missing or wrong: send it as 'Authorization: Bearer KEY'",
                kind="authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _allows(self, origin: str) -> bool:
        return "*" in self._options.cors_origins or origin in self._options.cors_origins

    async def _headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "hermesd"
        origin = request.headers.get("Origin")
        if origin is None or not self._allows(origin):
            return
        response.headers["Access-Control-Allow-Origin"] = "*" if "*" in self._options.cors_origins else origin
        response.headers["Access-Control-Expose-Headers"] = SESSION_HEADER
        response.headers["Vary"] = "Origin"
        if request.method == "OPTIONS":
            # OpenAI's own browser client sends a dozen X-Stainless-* headers, which change with its version.
            wanted = request.headers.get("Access-Control-Request-Headers", "Authorization, Content-Type")
            response.headers["Access-Control-Allow-Headers"] = wanted
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            response.headers["Access-Control-Max-Age"] = "600"


def refusal(problem: ApiProblem) -> web.Response:
    """The response that tells a problem."""
    return web.json_response(problem.body(), status=problem.status, headers=problem.headers)


def too_large(limit: int) -> ApiProblem:
    return ApiProblem(413, f"the body is larger than {limit} bytes", code="request_too_large")
