import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.model.target import (
    RUN,
    HostSpec,
    Subject,
    SubjectKind,
    TargetError,
    as_address,
    join_host_port,
    parse_domain,
    parse_host,
    parse_server,
    split_server,
)

domain_names = st.lists(
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True), min_size=1, max_size=4
).map(".".join)
addresses = st.ip_addresses().map(str)
ports = st.integers(1, 65_535)


class TestDomain:
    @pytest.mark.parametrize(
        ("typed", "domain"),
        [
            ("contoso.example", "contoso.example"),
            ("Contoso.EXAMPLE.", "contoso.example"),
            ("  contoso.example\n", "contoso.example"),
            ("_vlmcs._tcp.contoso.example", "contoso.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("corp", "corp"),
            ("a_b.example", "a_b.example"),
        ],
    )
    def test_is_normalised(self, typed: str, domain: str) -> None:
        assert parse_domain(typed) == domain

    @pytest.mark.parametrize(
        ("typed", "says"),
        [
            ("", "is no domain"),
            (".", "is no domain"),
            ("10.1.0.8", "use --host 10.1.0.8"),
            ("[fd00::8]", "is an address"),
            ("https://contoso.example", "without scheme"),
            ("contoso.example:1688", "without scheme, user or port"),
            ("me@contoso.example", "without scheme, user"),
            ("a..b", "is no label"),
            ("-a.example", "'-a' is no label"),
            ("a b.example", "is no label"),
            (f"{'x' * 64}.example", "is no label"),
            (".".join(["x" * 60] * 5), "253 are allowed"),
            ("*.contoso.example", "'\\*' is no label"),
            ("con\x1b[2Jtoso.example", "is no label"),
            ("１０.1.0.8", "read as 10.1.0.8"),
        ],
    )
    def test_is_refused_with_the_reason(self, typed: str, says: str) -> None:
        with pytest.raises(TargetError, match=says):
            parse_domain(typed)

    @given(domain_names)
    def test_parsing_twice_changes_nothing(self, name: str) -> None:
        try:
            once = parse_domain(name)
        except TargetError:
            assert as_address(name) is not None
            return
        assert parse_domain(once) == once == parse_domain(f"{name.upper()}.")

    @given(st.text(max_size=60))
    def test_any_text_is_a_domain_or_an_error(self, text: str) -> None:
        try:
            name = parse_domain(text)
        except TargetError:
            return
        assert name.isascii()
        assert name.isprintable()
        assert name == name.lower()
        assert 1 <= len(name) <= 253
        assert parse_domain(name) == name


class TestHost:
    @pytest.mark.parametrize(
        ("typed", "spec"),
        [
            ("kms1.contoso.example", HostSpec("kms1.contoso.example", 1688)),
            ("KMS1.contoso.example.:1689", HostSpec("kms1.contoso.example", 1689)),
            ("10.1.0.8", HostSpec("10.1.0.8", 1688)),
            ("10.1.0.8:65535", HostSpec("10.1.0.8", 65_535)),
            ("fd00::8", HostSpec("fd00::8", 1688)),
            ("FD00:0:0::8", HostSpec("fd00::8", 1688)),
            ("[fd00::8]", HostSpec("fd00::8", 1688)),
            ("[fd00::8]:1689", HostSpec("fd00::8", 1689)),
        ],
    )
    def test_is_normalised(self, typed: str, spec: HostSpec) -> None:
        assert parse_host(typed) == spec
        assert parse_host(str(spec)) == spec

    @pytest.mark.parametrize(
        ("typed", "says"),
        [
            ("", "names no host"),
            (":1688", "names no host"),
            ("kms1:", "empty port"),
            ("[fd00::8]:", "empty port"),
            ("kms1:0", "1 to 65535"),
            ("kms1:65536", "1 to 65535"),
            ("kms1:-1", "1 to 65535"),
            ("kms1:http", "'http' in 'kms1:http' is no port"),
            ("kms1:١٦٨٨", "is no port"),
            ("kms1:" + "9" * 5000, "is no port"),
            ("[fd00::8", "write an IPv6 address with a port as"),
            ("[fd00::8]x", "write an IPv6 address"),
            ("10.1.0.256", "looks like an address"),
            ("10.1.0", "looks like an address"),
            ("http://kms1", "is no"),
            ("a:b:c", "is no host"),
            ("kms 1", "is no label"),
            ("²", "read as 2"),
        ],
    )
    def test_is_refused_with_the_reason(self, typed: str, says: str) -> None:
        with pytest.raises(TargetError, match=says):
            parse_host(typed)

    @given(st.one_of(addresses, domain_names.map(lambda name: f"h.{name}")), ports)
    def test_what_is_written_is_read_back(self, host: str, port: int) -> None:
        assert parse_host(join_host_port(host, port)) == HostSpec(host, port)

    @given(st.text(max_size=40))
    def test_any_text_is_a_host_or_an_error(self, text: str) -> None:
        try:
            spec = parse_host(text)
        except TargetError:
            return
        assert spec.host
        assert 1 <= spec.port <= 65_535
        assert parse_host(str(spec)) == spec


class TestServer:
    @pytest.mark.parametrize(
        ("typed", "server", "parts"),
        [
            ("10.1.0.2", "10.1.0.2", ("10.1.0.2", 53)),
            ("10.1.0.2:53", "10.1.0.2", ("10.1.0.2", 53)),
            ("10.1.0.2:5353", "10.1.0.2:5353", ("10.1.0.2", 5353)),
            ("FD00::2", "fd00::2", ("fd00::2", 53)),
            ("[fd00::2]:5353", "[fd00::2]:5353", ("fd00::2", 5353)),
        ],
    )
    def test_is_normalised(self, typed: str, server: str, parts: tuple[str, int]) -> None:
        assert parse_server(typed) == server
        assert split_server(server) == parts

    def test_system(self) -> None:
        assert parse_server(" system ") == "system"

    @pytest.mark.parametrize("typed", ["dc1.contoso.example", "", "10.1.0.2:0", "10.1.0", "[10.1.0.2"])
    def test_is_refused(self, typed: str) -> None:
        with pytest.raises(TargetError):
            parse_server(typed)

    @given(addresses, ports)
    def test_what_is_parsed_can_be_split(self, address: str, port: int) -> None:
        assert split_server(parse_server(join_host_port(address, port))) == (address, port)


def test_subjects_sort_domains_hosts_run() -> None:
    domain, host = Subject(SubjectKind.DOMAIN, "z.example"), Subject(SubjectKind.HOST, "a.example", 1688)
    assert sorted([RUN, host, domain], key=lambda one: one.order) == [domain, host, RUN]
    assert [str(one) for one in (domain, host, RUN)] == ["z.example", "a.example:1688", "all"]
    assert str(Subject(SubjectKind.HOST, "fd00::8", 1688)) == "[fd00::8]:1688"
