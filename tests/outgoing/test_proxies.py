"""Every form of proxy that an environment can name: used, or refused by a code that names its variable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.refusal import Refusal
from outgoing.proxies import proxy_for

COORDINATOR = "https://fedslice.example:8443"


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "proxy.example:3128"),
        ({"https_proxy": "proxy.example:3128"}, "proxy.example:3128"),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, None),
        ({"ALL_PROXY": "http://user:secret@proxy.example"}, "proxy.example:80"),
        (
            {"HTTPS_PROXY": "http://proxy.example:3128", "https_proxy": "http://lower.example:1"},
            "lower.example:1",
        ),
        ({"HTTPS_PROXY": "http://[fd00::1]:3128"}, "fd00::1:3128"),
    ],
)
def test_the_proxy_is_read_as_curl_reads_it(environment: dict[str, str], shown: str | None) -> None:
    found = proxy_for(COORDINATOR, environment)
    assert (found and found.shown) == shown


@pytest.mark.parametrize(
    ("no_proxy", "address", "exempt"),
    [
        ("fedslice.example", COORDINATOR, True),
        (".example", COORDINATOR, True),
        ("*.example", COORDINATOR, True),
        ("slice.example", COORDINATOR, False),
        ("fedslice.example:8443", COORDINATOR, True),
        ("fedslice.example:443", COORDINATOR, False),
        ("*", COORDINATOR, True),
        ("fd00::/8", COORDINATOR, False),
        ("fd00::/8, [::1]", "https://[fd00::5]:8443", True),
        ("[::1]", "https://[::1]:8443", True),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.1.2.3", "https://10.1.2.3", True),
        ("nonsense//,,[", COORDINATOR, False),
    ],
)
def test_no_proxy_takes_names_suffixes_addresses_and_networks(
    no_proxy: str, address: str, exempt: bool
) -> None:
    environment = {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": no_proxy}
    assert (proxy_for(address, environment) is None) == exempt


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("HTTPS_PROXY", "socks5://proxy.example:1080", "outgoing.proxy_kind"),
        ("ALL_PROXY", "socks://proxy.example:1080", "outgoing.proxy_kind"),
        ("HTTPS_PROXY", '"http://proxy.example:3128"', "outgoing.bad_proxy"),
        ("HTTPS_PROXY", "http://proxy:port", "outgoing.bad_proxy"),
        ("https_proxy", "http://", "outgoing.bad_proxy"),
        ("HTTPS_PROXY", "http://[fd00::1", "outgoing.bad_proxy"),
    ],
)
def test_what_cannot_be_used_names_its_variable_and_no_password(variable: str, value: str, code: str) -> None:
    with pytest.raises(Refusal) as caught:
        proxy_for(COORDINATOR, {variable: value})
    assert (caught.value.code, caught.value.facts["variable"]) == (code, variable)


@given(st.sampled_from(["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]), st.text(max_size=40))
def test_no_value_of_the_environment_is_a_crash(variable: str, value: str) -> None:
    environment = (
        {variable: value, "ALL_PROXY": "http://p.example:1"} if variable == "NO_PROXY" else {variable: value}
    )
    try:
        found = proxy_for(COORDINATOR, environment)
    except Refusal as refusal:
        assert refusal.code in ("outgoing.bad_proxy", "outgoing.proxy_kind")
    else:
        assert found is None or found.parts.hostname
