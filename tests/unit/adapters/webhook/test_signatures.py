"""Who has proved that they know the secret, with the examples of the schemes' own documentation."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pytest

from hermesd.adapters.webhook.signatures import SCHEMES, TOLERANCE, Unverified, sign, verify

# https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation
GITHUB_SECRET = "It's a Secret to Everybody"
GITHUB_BODY = b"Hello, World!"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

# The reference vector of Standard Webhooks and Svix, whose format GitLab's signing tokens have
# (https://gitlab.com/gitlab-org/gitlab/-/merge_requests/230944).
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STANDARD_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
STANDARD_AT = 1614265330
STANDARD_BODY = b'{"test": 2432232314}'
STANDARD_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
STANDARD_HEADERS = {
    "webhook-id": STANDARD_ID,
    "webhook-timestamp": str(STANDARD_AT),
    "webhook-signature": STANDARD_SIGNATURE,
}

NOW = 1_700_000_000.0


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def refusal(headers: Mapping[str, str], body: bytes, secret: str, now: float = NOW, scheme: str = "auto") -> str:
    with pytest.raises(Unverified) as error:
        verify(headers, body, secret, now, scheme)
    return str(error.value)


class TestGitHub:
    def test_the_example_of_its_documentation(self) -> None:
        found = verify({"x-hub-signature-256": GITHUB_SIGNATURE}, GITHUB_BODY, GITHUB_SECRET, NOW)
        assert (found.scheme, found.signed) == ("github", False)

    @pytest.mark.parametrize(
        ("signature", "body", "secret"),
        [
            (GITHUB_SIGNATURE, b"Hello, World?", GITHUB_SECRET),
            (GITHUB_SIGNATURE, GITHUB_BODY, "another"),
            (GITHUB_SIGNATURE.removeprefix("sha256="), GITHUB_BODY, GITHUB_SECRET),
            ("sha256=", GITHUB_BODY, GITHUB_SECRET),
            ("sha256=\u00e4\udcff", GITHUB_BODY, GITHUB_SECRET),
        ],
    )
    def test_anything_else_is_refused(self, signature: str, body: bytes, secret: str) -> None:
        said = refusal({"x-hub-signature-256": signature}, body, secret)
        assert "x-hub-signature-256 is not that of this body" in said
        assert secret not in said

    def test_sha1_proves_nothing(self) -> None:
        assert "not signed" in refusal({"x-hub-signature": "sha1=00"}, GITHUB_BODY, GITHUB_SECRET)


class TestGitLab:
    def test_its_secret_token_is_the_secret(self) -> None:
        assert verify({"x-gitlab-token": "s3cret"}, b"{}", "s3cret", NOW).scheme == "gitlab"
        assert refusal({"x-gitlab-token": "other"}, b"{}", "s3cret") == "X-Gitlab-Token is not this route's secret"

    def test_its_signing_token(self) -> None:
        found = verify(STANDARD_HEADERS, STANDARD_BODY, STANDARD_SECRET, STANDARD_AT + 5, "gitlab")
        assert (found.scheme, found.signed) == ("standard", True)

    def test_it_sends_id_and_timestamp_also_without_a_signing_token(self) -> None:
        headers = {"webhook-id": "1", "webhook-timestamp": "1", "x-gitlab-token": "s3cret"}
        assert verify(headers, b"{}", "s3cret", NOW).scheme == "gitlab"

    def test_with_both_it_is_enough_that_one_is_the_secret(self) -> None:
        both = STANDARD_HEADERS | {"x-gitlab-token": "s3cret"}
        assert verify(both, STANDARD_BODY, "s3cret", STANDARD_AT).scheme == "gitlab"
        assert verify(both, STANDARD_BODY, STANDARD_SECRET, STANDARD_AT).scheme == "standard"
        refusal(both, STANDARD_BODY, "third", STANDARD_AT)


class TestStandardWebhooks:
    @pytest.mark.parametrize("prefix", ["webhook", "svix"])
    def test_the_reference_vector(self, prefix: str) -> None:
        headers = {name.replace("webhook", prefix): value for name, value in STANDARD_HEADERS.items()}
        assert verify(headers, STANDARD_BODY, STANDARD_SECRET, STANDARD_AT).scheme == "standard"

    def test_one_of_several_signatures_is_enough(self) -> None:
        headers = STANDARD_HEADERS | {"webhook-signature": f"v1,AAAA v1a,BBBB {STANDARD_SIGNATURE}"}
        assert verify(headers, STANDARD_BODY, STANDARD_SECRET, STANDARD_AT)
        headers = STANDARD_HEADERS | {"webhook-signature": STANDARD_SIGNATURE.replace("v1,", "v2,")}
        refusal(headers, STANDARD_BODY, STANDARD_SECRET, STANDARD_AT)

    @pytest.mark.parametrize("changed", [{"webhook-id": "msg_other"}, {"webhook-timestamp": str(STANDARD_AT + 1)}])
    def test_id_and_timestamp_are_signed(self, changed: dict[str, str]) -> None:
        refusal(STANDARD_HEADERS | changed, STANDARD_BODY, STANDARD_SECRET, STANDARD_AT)

    @pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp"])
    def test_both_are_needed(self, missing: str) -> None:
        headers = {name: value for name, value in STANDARD_HEADERS.items() if name != missing}
        assert "needs webhook-id and webhook-timestamp" in refusal(headers, STANDARD_BODY, STANDARD_SECRET, STANDARD_AT)

    @pytest.mark.parametrize(("late", "word"), [(TOLERANCE + 1, "old"), (-TOLERANCE - 1, "ahead")])
    def test_an_old_request_that_comes_again_is_refused(self, late: float, word: str) -> None:
        assert verify(STANDARD_HEADERS, STANDARD_BODY, STANDARD_SECRET, STANDARD_AT + TOLERANCE)
        assert word in refusal(STANDARD_HEADERS, STANDARD_BODY, STANDARD_SECRET, STANDARD_AT + late)

    def test_a_secret_that_is_no_base64(self) -> None:
        assert "not base64" in refusal(STANDARD_HEADERS, STANDARD_BODY, "whsec_!", STANDARD_AT)


class TestGeneric:
    def test_a_signed_timestamp(self) -> None:
        headers = lower(sign("generic", "s3cret", b"{}", "id", NOW))
        assert verify(headers, b"{}", "s3cret", NOW + TOLERANCE).signed
        assert "old" in refusal(headers, b"{}", "s3cret", NOW + TOLERANCE + 1)
        assert "not that of" in refusal(headers | {"x-webhook-timestamp": str(int(NOW) + 1)}, b"{}", "s3cret")
        assert "no" in refusal(headers | {"x-webhook-timestamp": "soon"}, b"{}", "s3cret")

    def test_the_older_signature_of_the_body_alone(self) -> None:
        # hmac_sha256("s3cret", "{}"), by OpenSSL: printf '{}' | openssl dgst -sha256 -hmac s3cret
        of_body = sign("linear", "s3cret", b"{}", "id", NOW)["Linear-Signature"]
        assert verify({"x-webhook-signature": of_body}, b"{}", "s3cret", NOW).scheme == "generic"
        refusal({"x-webhook-signature": of_body}, b"[]", "s3cret")

    def test_nobody_gets_round_the_timestamp_by_leaving_it_out(self) -> None:
        of_body = sign("linear", "s3cret", b"{}", "id", NOW)["Linear-Signature"]
        headers = lower(sign("generic", "s3cret", b"{}", "id", NOW)) | {"x-webhook-signature": of_body}
        del headers["x-webhook-timestamp"]
        assert "needs X-Webhook-Timestamp" in refusal(headers, b"{}", "s3cret")
        stale = lower(sign("generic", "s3cret", b"{}", "id", NOW - 1000)) | {"x-webhook-signature": of_body}
        assert "old" in refusal(stale, b"{}", "s3cret")

    @pytest.mark.parametrize("given", ["Bearer s3cret", "bearer  s3cret "])
    def test_bearer(self, given: str) -> None:
        assert verify({"authorization": given}, b"{}", "s3cret", NOW).scheme == "bearer"

    @pytest.mark.parametrize("given", ["Bearer other", "Basic s3cret", "s3cret", "Bearer"])
    def test_no_bearer(self, given: str) -> None:
        assert "Authorization is not" in refusal({"authorization": given}, b"{}", "s3cret")


def test_a_request_without_any_proof_is_told_what_there_is() -> None:
    said = refusal({}, b"{}", "s3cret")
    assert "X-Hub-Signature-256" in said
    assert "X-Gitlab-Token" in said


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("secret", ["s3cret", "whsec_" + base64.b64encode(b"k" * 32).decode()])
def test_what_is_signed_for_a_scheme_is_taken_by_it(scheme: str, secret: str) -> None:
    headers = lower(sign(scheme, secret, b'{"a": 1}', "id-1", NOW))
    assert verify(headers, b'{"a": 1}', secret, NOW, scheme)
    assert verify(headers, b'{"a": 1}', secret, NOW)


@pytest.mark.parametrize("scheme", ["github", "standard", "generic", "linear", "bearer"])
def test_a_route_that_is_pinned_to_a_scheme_takes_no_other(scheme: str) -> None:
    assert "send" in refusal({"x-gitlab-token": "s3cret"}, b"{}", "s3cret", scheme=scheme)
