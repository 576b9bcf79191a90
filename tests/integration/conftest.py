"""The hosts and servers that the integration tests share, started once a session."""

from collections.abc import Iterator

import pytest

from tests.integration.world import Zone, listening, start_named
from tests.netlab import Lab, require_lab, require_tools

_KMS1 = "kms1 A 10.77.0.13\n"

AUTHORITATIVE = {
    "corp.test": Zone(
        "_vlmcs._tcp SRV 0 100 1688 kms1\n_vlmcs._tcp SRV 10 50 1688 kms2\n"
        "kms1 A 10.77.0.13\nkms1 AAAA fd77::13\nkms2 A 10.77.0.14\n"
    ),
    "one.test": Zone("_vlmcs._tcp SRV 0 0 1688 kms1\nkms1 A 10.77.0.13\nkms1 AAAA fd77::13\n"),
    "port.test": Zone("_vlmcs._tcp SRV 0 0 1700 kms1\n" + _KMS1),
    "nxdomain.test": Zone(_KMS1),
    # A name that exists only because there is something below it.
    "empty.test": Zone('below._vlmcs._tcp TXT "something"\n'),
    "nodata.test": Zone('_vlmcs._tcp TXT "no srv here"\n'),
    "refused.test": Zone("_vlmcs._tcp SRV 0 0 1688 kms1\n" + _KMS1, "allow-query { none; };"),
    "broken.test": Zone("this is not a zone\n"),
    "big.test": Zone(
        "".join(
            f"_vlmcs._tcp SRV 0 0 1688 kms-with-a-long-name-{n:02}\nkms-with-a-long-name-{n:02} A 10.77.0.13\n"
            for n in range(60)
        )
    ),
    "cname.test": Zone("_vlmcs._tcp SRV 0 0 1688 alias\nalias CNAME real\nreal A 10.77.0.13\n"),
    "srvcname.test": Zone("_vlmcs._tcp CNAME _vlmcs._tcp.one.test.\n"),
    "srvcnameout.test": Zone("_vlmcs._tcp CNAME _vlmcs._tcp.elsewhere.example.\n"),
    "loop.test": Zone("_vlmcs._tcp CNAME round\nround CNAME _vlmcs._tcp\n"),
    "root.test": Zone("_vlmcs._tcp SRV 0 0 0 .\n"),
    "gone.test": Zone("_vlmcs._tcp SRV 0 0 1688 gone\n"),
    "bare.test": Zone('_vlmcs._tcp SRV 0 0 1688 bare\nbare TXT "no address"\n'),
    "outside.test": Zone("_vlmcs._tcp SRV 0 0 1688 kms.elsewhere.example.\n"),
    "literal.test": Zone("_vlmcs._tcp SRV 0 0 1688 10.77.0.13.\n"),
    "parent.test": Zone("child NS ns.child\nns.child A 10.77.0.13\n"),
}

# The resolver is its own root. It sends each zone to the server above; "lame" goes there too, and is not served there;
# "dead" goes to a host without a DNS server.
_ROOT = Zone(
    "".join(f"{zone}. NS ns.there.\n" for zone in (*AUTHORITATIVE, "lame.test"))
    + "ns.there. A 10.77.0.12\ndead.test. NS ns.dead.test.\nns.dead.test. A 10.77.0.13\n"
)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The network: seven hosts on one switch."""
    require_lab()
    with Lab(router=1, client=11, dns=12, kms=13, resolver=14, peer=15, dc=16) as made:
        yield made


@pytest.fixture(scope="session")
def named(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An authoritative BIND in the host "dns"; its address."""
    require_tools("named")
    start_named(lab, "dns", tmp_path_factory.mktemp("named"), AUTHORITATIVE, "recursion no;", "corp.test")
    return lab.v4("dns")


@pytest.fixture(scope="session")
def resolver(lab: Lab, named: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A recursive BIND in the host "resolver", as clients have one; its address."""
    folder = tmp_path_factory.mktemp("resolver")
    start_named(lab, "resolver", folder, {".": _ROOT}, "recursion yes; allow-recursion { any; };", ".")
    return lab.v4("resolver")


@pytest.fixture(scope="session")
def kms(lab: Lab) -> Iterator[str]:
    """A listener on port 1688 of the host "kms", both families, that accepts the KMS interface; its IPv4 address."""
    with listening(lab, "kms", *lab.both("kms")):
        yield lab.v4("kms")
