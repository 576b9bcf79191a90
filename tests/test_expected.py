import datetime
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsdiag.expected import ExpectedError, ExpectedState, read
from kmsdiag.model.target import ExpectedHost, Network, Product, Site
from kmsdiag.policy import Waiver
from kmsdiag.report.json import schemas

WHOLE = """
format = 1
domains = ["contoso.example", "Fabrikam.example."]
suffixes = ["branch.contoso.example"]
max_hosts = 2

[[hosts]]
host = "KMS1.contoso.example"
serves = ["office", "windows"]
addresses = ["10.1.0.9", "FD00:0::8"]
priority = 0
weight = 10

[[hosts]]
host = "kms2.contoso.example"
port = 1689
serves = ["windows"]
domains = ["contoso.example"]

[[sites]]
name = "hq"
domain = "contoso.example"
dns = ["10.1.0.2", "10.1.0.3:5353"]
machines = { client = 120, server = 12, office = 80 }

[[sites]]
name = "works"
domain = "fabrikam.example"
machines = { server = 6 }

[[networks]]
name = "desks"
address = "10.1.0.0/16"
site = "hq"

[severity]
"hosts_several.equal" = "warning"

[[waivers]]
code = "hosts_public.public"
about = "KMS2.contoso.example"
reason = "moves in spring"
until = 2026-12-31
"""


def state(text: str) -> ExpectedState:
    return read(text.encode(), "expected.toml")


def wrong(text: str | bytes) -> str:
    with pytest.raises(ExpectedError) as caught:
        read(text.encode() if isinstance(text, str) else text, "expected.toml")
    message = str(caught.value)
    assert message.startswith("expected.toml: ")
    assert "\n" not in message.removeprefix("expected.toml: ")
    return message.removeprefix("expected.toml: ")


class TestWhole:
    def test_what_is_asked(self) -> None:
        found = state(WHOLE)
        assert found.domains == ("contoso.example", "fabrikam.example")
        assert found.suffixes == ("branch.contoso.example",)
        assert found.servers == ("10.1.0.2", "10.1.0.3:5353")

    def test_what_is_expected(self) -> None:
        expected = state(WHOLE).expected
        assert expected.planned
        assert expected.max_hosts == 2
        assert expected.hosts == (
            ExpectedHost(
                "kms1.contoso.example",
                1688,
                (Product.WINDOWS, Product.OFFICE),
                ("contoso.example", "fabrikam.example"),
                ("10.1.0.9", "fd00::8"),
                0,
                10,
            ),
            ExpectedHost("kms2.contoso.example", 1689, (Product.WINDOWS,), ("contoso.example",)),
        )
        assert expected.sites == (
            Site(
                name="hq",
                domain="contoso.example",
                servers=("10.1.0.2", "10.1.0.3:5353"),
                client=120,
                server=12,
                office=80,
            ),
            Site(name="works", domain="fabrikam.example", server=6),
        )
        assert expected.networks == (Network(name="desks", address="10.1.0.0/16", site="hq"),)

    def test_what_it_is_worth(self) -> None:
        found = state(WHOLE)
        assert found.severity == {"hosts_several.equal": "warning"}
        assert found.waivers == (
            Waiver(
                code="hosts_public.public",
                reason="moves in spring",
                until=datetime.date(2026, 12, 31),
                about="kms2.contoso.example",
            ),
        )

    def test_little_is_enough(self) -> None:
        found = state('domains = ["contoso.example"]')
        assert (found.servers, found.waivers, found.expected.hosts) == ((), (), ())
        assert found.expected.planned

    def test_one_domain_is_every_sites(self) -> None:
        found = state('domains = ["contoso.example"]\n[[sites]]\nname = "hq"\n')
        assert found.expected.sites[0].domain == "contoso.example"


class TestMistakes:
    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ("max_hosts = 2", "max_host = 2", "max_host: there is no such key; did you mean 'max_hosts'?"),
            ("max_hosts = 2", "max_hosts = 0", "max_hosts: Expected `int` >= 1"),
            ("max_hosts = 2", 'max_hosts = "2"', "max_hosts: Expected `int | null`, got `str`"),
            ("max_hosts = 2", "max_hosts = 1", "max_hosts: 1, but 2 of hosts are to be published in 'contoso.example'"),
            ("format = 1", "format = 2", "format: 2 is newer than 1, which this kmsdiag reads"),
            ("format = 1", "format = 0", "format: 0 never was one"),
            ("port = 1689", '"\\n" = 1', "hosts[1].'\\n': there is no such key; there are host, port, serves"),
            ("port = 1689", "port = 0", "hosts[1].port: Expected `int` >= 1"),
            ("port = 1689", "ports = 1689", "hosts[1].ports: there is no such key; did you mean 'port'?"),
            ("kms2.contoso.example", "kms2.contoso.example:1689", "hosts[1].host: write the port as port = 1689"),
            ("kms2.contoso.example", "kms2", "hosts[1].host: SRV records name hosts in full: 'kms2' lacks its domain"),
            ("kms2.contoso.example", "10.1.0.999", "hosts[1].host: '10.1.0.999' looks like an address but is none"),
            ('serves = ["windows"]', "serves = []", "hosts[1].serves: a host that serves nothing"),
            (
                'serves = ["windows"]',
                'serves = ["print"]',
                "hosts[1].serves[0]: 'print' is no product (windows, office)",
            ),
            (
                'domains = ["contoso.example"]',
                'domains = ["x.example"]',
                "hosts[1].domains: 'x.example' is none of domains (contoso.example, fabrikam.example)",
            ),
            ('"10.1.0.9"', '"10.1.0"', "hosts[0].addresses: '10.1.0' is no address"),
            ("priority = 0", "priority = 70000", "hosts[0].priority: Expected `int` <= 65535"),
            ('"10.1.0.2"', '"dc1.contoso.example"', "sites[0].dns[0]: 'dc1.contoso.example' is no DNS server"),
            ('name = "works"', 'name = "hq"', "sites[1]: 'hq' is there twice"),
            ('name = "works"', 'name = " "', "sites[1].name: give the site a name"),
            ('domain = "fabrikam.example"', "", "sites[1].domain: say which of domains (contoso.example, fabrikam"),
            ("server = 6", "server = -6", "sites[1].machines.server: Expected `int` >= 0"),
            ("server = 6", "servers = 6", "sites[1].machines.servers: there is no such key; did you mean 'server'?"),
            ('"10.1.0.0/16"', '"10.1.0.1/16"', "networks[0].address: 10.1.0.1/16 has host bits set"),
            ('site = "hq"', 'site = "moon"', "networks[0].site: there is no site 'moon'"),
            ('name = "desks"', 'name = ""', "networks[0].name: give the network a name"),
            ('"warning"', '"bad"', "severity.'hosts_several.equal': 'bad' is no severity (ok, info, warning, error)"),
            ('"warning"', "3", "severity.'hosts_several.equal': 3 is no severity"),
            ('"hosts_several.equal"', "hosts_several.equal", "severity.'hosts_several': write the code in quotes: "),
            ("until = 2026-12-31", "", "waivers[0].until: is missing"),
            ("2026-12-31", '"soon"', "waivers[0].until: Expected `date`, got `str`"),
            ("2026-12-31", "2026-12-31T10:00:00", "waivers[0].until: Expected `date`, got `datetime`"),
            ("moves in spring", " ", "waivers[0].reason: say why it does not count"),
            ('["contoso.example", "Fabrikam.example."]', "[]", "domains: give at least one domain"),
            ('["contoso.example", "Fabrikam.example."]', '["10.1.0.8"]', "domains[0]: '10.1.0.8' is an address"),
            ('["contoso.example", "Fabrikam.example."]', '"contoso.example"', "domains: Expected `array`, got `str`"),
        ],
    )
    def test_are_named_by_the_path_of_the_key(self, old: str, new: str, says: str) -> None:
        assert old in WHOLE
        assert wrong(WHOLE.replace(old, new)).startswith(says)

    def test_what_an_address_serves(self) -> None:
        """Shares of products are worked out by name: half of a plan would be held against nothing."""
        text = 'domains = ["a.example"]\n[[hosts]]\nhost = "10.1.0.8"\nserves = ["windows"]\n'
        assert wrong(text) == "hosts[0].serves: this is told by a host's name: give that in place of 10.1.0.8"

    def test_a_host_twice(self) -> None:
        host = '[[hosts]]\nhost = "kms1.contoso.example"\n'
        assert wrong(f'domains = ["contoso.example"]\n{host}{host}').startswith("hosts[1]: 'kms1.contoso.example:1688'")

    def test_a_domain_without_a_host(self) -> None:
        text = 'domains = ["contoso.example", "b.example"]\n[[hosts]]\nhost = "k.b.example"\ndomains = ["b.example"]\n'
        assert wrong(text) == "domains: none of hosts is to be published in 'contoso.example'"

    def test_a_product_that_nobody_serves(self) -> None:
        text = 'domains = ["a.example"]\n[[hosts]]\nhost = "k.a.example"\nserves = ["windows"]\n'
        assert wrong(f'{text}[[sites]]\nname = "hq"\nmachines = {{ office = 9 }}\n') == (
            "sites[0].machines: 9 for office, which no host of 'a.example' serves"
        )

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ('domains = ["contoso.example]\n', "(at line 1, column 29)"),
            ("domains = []\n\nx = [\n", "(at line 3, the end)"),
            ("domains = 1\nbad line\n", "(at line 2, column 5)"),
            ("domains = 1\ndomains = 2\n", "(at line 2, column 12)"),
            (b"domains = 1\n\xff\n", "it is no text in UTF-8 (at line 2)"),
            ("x = " + "[" * 100_000, "it is no valid TOML"),
            ("x = " + "1" * 5000, "it is no valid TOML"),
            ("", "domains: is missing"),
        ],
    )
    def test_of_syntax_are_named_by_line(self, text: str | bytes, says: str) -> None:
        assert says in wrong(text)

    @settings(max_examples=200)
    @given(st.binary(max_size=200))
    def test_no_bytes_do_more_than_be_refused(self, data: bytes) -> None:
        with pytest.raises(ExpectedError):
            read(data, "x")

    @settings(max_examples=300)
    @given(st.data())
    def test_a_changed_file_is_read_or_refused(self, data: st.DataObject) -> None:
        lines = WHOLE.splitlines()
        number = data.draw(st.integers(0, len(lines) - 1))
        lines[number] = data.draw(
            st.one_of(
                st.just(""),
                st.text(max_size=20),
                st.sampled_from(lines),
                st.builds(
                    "{} = {}".format,
                    st.sampled_from(("host", "port", "dns", "machines", "until", "address", "domains", "severity")),
                    st.sampled_from(("1", "-1", '"x"', "[]", "[1]", "{}", "{a=1}", "2026-01-01", "nan", "1e9", "true")),
                ),
            )
        )
        try:
            assert state("\n".join(lines)).domains
        except ExpectedError as error:
            assert "\n" not in str(error)  # noqa: PT017  # both are fine


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_saved_on_windows_is_the_same(encoding: str) -> None:
    text = WHOLE.replace("moves in spring", "zieht um, im Frühjahr").replace("\n", "\r\n")
    assert read(text.encode(encoding), "x").waivers[0].reason == "zieht um, im Frühjahr"


class TestSchema:
    def validate(self, text: str) -> None:
        def as_json(value: Any) -> str:
            assert isinstance(value, datetime.date)
            return value.isoformat()

        schema = json.loads(schemas()["expected"])
        jsonschema.Draft202012Validator.check_schema(schema)
        data = json.loads(json.dumps(tomllib.loads(text), default=as_json))
        jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(data)

    def test_takes_what_the_reader_takes(self) -> None:
        self.validate(WHOLE)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("max_hosts = 2", "max_host = 2"),
            ("max_hosts = 2", "max_hosts = 0"),
            ("port = 1689", "port = 0"),
            ('serves = ["windows"]', 'serves = ["print"]'),
            ("server = 6", "server = -6"),
            ('"warning"', '"not_assessed"'),
            ("until = 2026-12-31", ""),
        ],
    )
    def test_refuses_what_the_reader_refuses(self, old: str, new: str) -> None:
        text = WHOLE.replace(old, new)
        wrong(text)
        with pytest.raises(jsonschema.ValidationError):
            self.validate(text)

    def test_every_key_is_documented(self) -> None:
        page = (Path(__file__).parent.parent / "docs/expected.md").read_text(encoding="utf-8")
        definitions = json.loads(schemas()["expected"])["$defs"]
        keys = {key for one in definitions.values() for key in one.get("properties", {})}
        assert keys
        assert [key for key in sorted(keys) if f"`{key}`" not in page and f"[{key}]" not in page] == []


@pytest.mark.parametrize("page", ["expected.md", "audit.md"])
def test_every_example_in_the_pages_is_sound(page: str) -> None:
    text = (Path(__file__).parent.parent / "docs" / page).read_text(encoding="utf-8")
    examples = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        assert state(example).domains
