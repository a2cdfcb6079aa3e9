"""How both sides of hermesd speak https to a server that is configured with certificates of its own."""

from __future__ import annotations

import ssl

from .mcp import Tls


def context(tls: Tls | None) -> ssl.SSLContext | None:
    """None: the library's usual one. Raises OSError, also `ssl.SSLError`, for files that cannot be used."""
    if tls is None:
        return None
    made = ssl.create_default_context(cafile=tls.authorities or None)
    if not tls.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if tls.certificate:
        made.load_cert_chain(tls.certificate, tls.key or None, tls.password or None)
    return made
