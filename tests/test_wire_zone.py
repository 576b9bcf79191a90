import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.model.answer import SrvRecord
from kmsdiag.model.proposal import Proposal, ProposedAddresses, ProposedSrv
from kmsdiag.model.target import Family
from kmsdiag.wire.zone import ZoneError, read
from tests.conftest import DOMAIN

ONE = "_vlmcs._tcp SRV 0 0 1688 kms1\n"


def srv(*records: SrvRecord, name: str = f"_vlmcs._tcp.{DOMAIN}") -> ProposedSrv:
    return ProposedSrv(name, records)


def record(target: str, priority: int = 0, ttl: int = 3600) -> SrvRecord:
    return SrvRecord(priority, 0, 1688, f"{target}.{DOMAIN}", ttl)


class TestRead:
    def test_records_that_matter(self) -> None:
        text = (
            "; next week\n_vlmcs._tcp 300 IN SRV 10 0 1688 KMS2\n        300 IN SRV 0 0 1688 kms1\n"
            'kms1 A 10.1.0.8\n     AAAA fd00::8\nwww TXT "not ours"\n_ldap._tcp SRV 0 0 389 dc1\n'
        )
        assert read(text, DOMAIN) == Proposal(
            srv=(srv(record("kms1", ttl=300), record("kms2", 10, 300)),),
            addresses=(
                ProposedAddresses(f"kms1.{DOMAIN}", Family.IPV4, ("10.1.0.8",)),
                ProposedAddresses(f"kms1.{DOMAIN}", Family.IPV6, ("fd00::8",)),
            ),
        )

    def test_origins_and_ttls(self) -> None:
        text = f"$TTL 60\n$ORIGIN {DOMAIN}.\n{ONE}$ORIGIN fabrikam.example.\n_vlmcs._tcp SRV 0 0 1688 kms1.{DOMAIN}.\n"
        same = record("kms1", ttl=60)
        assert read(text).srv == (srv(same), srv(same, name="_vlmcs._tcp.fabrikam.example"))

    def test_names_in_full_need_no_origin(self) -> None:
        assert read(f"_vlmcs._tcp.{DOMAIN}. 3600 IN SRV 0 0 1688 kms1.{DOMAIN}.\n").srv == (srv(record("kms1")),)

    def test_a_record_over_several_lines(self) -> None:
        assert read("_vlmcs._tcp IN SRV ( 0 0\n 1688 ; the port\n kms1 )\n", DOMAIN).srv == (srv(record("kms1")),)

    def test_not_offered(self) -> None:
        assert read("_vlmcs._tcp SRV 0 0 0 .", DOMAIN).srv[0].records[0].target == "."

    def test_a_whole_zone(self) -> None:
        text = f"@ SOA ns h 1 2 3 4 5\n@ NS ns\nbranch NS ns.branch\n{ONE}kms1 A 10.1.0.8\n"
        found = read(text, DOMAIN)
        assert (found.zones, found.cuts) == ((DOMAIN,), (f"branch.{DOMAIN}",))

    def test_the_same_record_twice_is_one(self) -> None:
        assert read(ONE + ONE, DOMAIN).srv == (srv(record("kms1")),)

    def test_twenty_thousand_hosts(self) -> None:
        text = "\n".join(f"h{number} A 10.1.{number // 256 % 256}.{number % 256}" for number in range(20_000))
        assert len(read(text, DOMAIN).addresses) == 20_000


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "line", "says"),
        [
            (f"{ONE}kms1 A 10.1.0.888\nkms2 A 10.1.0.9\n", 2, "malformed"),
            (f"{ONE}kms1 A 10.1.0.888", 2, "malformed"),
            ("kms1 A 10.1.0.8\n_vlmcs._tcp SRV 0 0 99999 kms1\n", 2, "not an unsigned 16-bit integer"),
            ("_vlmcs._tcp SRV 0 0 1688 kms1 (\n", 1, "parenthes"),
            (f"{ONE}kms1 FOO x\n", 2, "unknown rdatatype 'FOO'"),
            (f"{ONE}kms1 CH A 10.1.0.8\n", 2, "class"),
            (f"{'a' * 70} A 10.1.0.8\n", 1, "63"),
            ("$INCLUDE /etc/passwd\n", 1, "'$INCLUDE' is not allowed"),
            ("$GENERATE 1-100000000 h$ A 10.0.0.1\n", 1, "'$GENERATE' is not allowed"),
            ("", 0, "no SRV record"),
            ('www TXT "x"\n', 0, "no SRV record"),
            ("_ldap._tcp SRV 0 0 389 dc1\n", 0, "no SRV record"),
            ("_vlmcs._tcp SRV 0 0 1688 kms\nkms CNAME kms1\n", 0, f"kms.{DOMAIN} is an alias"),
            ("_vlmcs._tcp CNAME elsewhere.example.\nkms1 A 10.1.0.8\n", 0, f"_vlmcs._tcp.{DOMAIN} is an alias"),
        ],
    )
    @pytest.mark.parametrize("origin", [True, False])
    def test_are_named_by_line(self, text: str, line: int, says: str, *, origin: bool) -> None:
        text, given_origin = (text, DOMAIN) if origin else (f"$ORIGIN {DOMAIN}.\n{text}", "")
        with pytest.raises(ZoneError, match=says.replace("$", r"\$")) as caught:
            read(text, given_origin)
        assert caught.value.line == (line + (not origin) if line else 0)

    @settings(max_examples=300)
    @given(
        st.lists(
            st.one_of(
                st.text(max_size=15),
                st.sampled_from(
                    (ONE, "kms1 A 10.1.0.8\n", "$TTL 5\n", "$ORIGIN x.\n", "@ SOA a b 1 2 3 4 5\n", "(", '"')
                ),
                st.sampled_from((" ", "\n", "\t", ";", "\\", "\\300", "$", "@", "IN", "SRV", "A", "0", "x", ".")),
            ),
            max_size=12,
        )
    )
    def test_anything_is_read_or_refused(self, parts: list[str]) -> None:
        text = "".join(parts)
        try:
            found = read(text, DOMAIN)
        except ZoneError as error:
            assert 0 <= error.line <= len(text.splitlines()) + 1  # noqa: PT017  # both are fine
        else:
            assert found.srv or found.addresses or found.zones
