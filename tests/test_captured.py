"""What captures say about clients and lookups, drawn together from one answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag import captured
from kmsdiag.model.capture import CaptureAnswer, Channel
from kmsdiag.model.outcome import ConversationOutcome, DnsOutcome, Stage, State
from tests.conftest import record
from tests.traffic import Traffic

K1, K2 = "10.1.0.8", "10.1.0.9"
A, B = "10.2.0.11", "10.2.0.12"
CONTOSO = "contoso.example"


def fate(answer: CaptureAnswer, client: str = A) -> captured.Fate:
    return next(one for one in captured.people_of(answer).fates if one.client.address == client)


class TestWords:
    @pytest.mark.parametrize(
        ("seconds", "words"),
        [
            (0, "0 s"),
            (0.0004, "under 0.1 s"),
            (0.4, "0.4 s"),
            (9.96, "10.0 s"),
            (45, "45 s"),
            (59.6, "1 min"),
            (125, "2 min 5 s"),
            (7200, "2 h"),
            (7500, "2 h 5 min"),
            (604_800, "7 d"),
            (612_000, "7 d 2 h"),
        ],
    )
    def test_a_span_has_two_units_at_most(self, seconds: float, words: str) -> None:
        assert captured.span(seconds) == words

    @given(st.floats(min_value=0, max_value=1e9))
    def test_any_span_can_be_said(self, seconds: float) -> None:
        assert captured.span(seconds)

    def test_many_clients_are_a_number_and_examples(self) -> None:
        assert captured.who([]) == "0 clients"
        assert captured.who([A]) == "1 client (10.2.0.11)"
        assert captured.who([A, B, "10.2.0.13", "10.2.0.14"]) == (
            "4 clients (10.2.0.11, 10.2.0.12, 10.2.0.13 and 1 more)"
        )
        assert captured.who([A] * 2000, most=1) == "2,000 clients (10.2.0.11 and 1,999 more)"

    def test_outcomes_are_ranked_and_cut(self) -> None:
        words = captured.outcomes_in_words({"refused": 1, "unanswered": 3, "activated": 1, "bound": 1})
        assert words == (
            "3 x no answer to the SYN; 1 x connection refused (RST to the SYN); 1 x bound, and nothing was asked;"
            " 1 other ends"
        )


class TestFates:
    def test_the_last_attempt_decides(self) -> None:
        answer = Traffic().talk(A, K1, "unanswered").talk(A, K1, "activated", at=7200).answer()
        assert fate(answer)[1:4] == (State.OK, Stage.ANSWER, ConversationOutcome.ACTIVATED)
        assert fate(answer).retried

    def test_of_one_attempt_at_several_hosts_the_one_that_came_furthest_tells(self) -> None:
        answer = Traffic().talk(A, K1, "host_refused").talk(A, K2, "unanswered", at=2).answer()
        assert fate(answer).outcome is ConversationOutcome.HOST_REFUSED
        use = fate(answer).use
        assert use is not None
        assert use.address == K1

    def test_an_earlier_attempt_does_not(self) -> None:
        answer = Traffic().talk(A, K1, "host_refused").talk(A, K2, "unanswered", at=7200).answer()
        assert fate(answer).outcome is ConversationOutcome.UNANSWERED

    def test_a_client_that_falls_back_to_a_host_that_works_has_activated(self) -> None:
        answer = Traffic().talk(A, K1, "refused").talk(A, K2, at=2).answer()
        assert (fate(answer).state, fate(answer).retried) == (State.OK, True)

    def test_what_the_capture_lacks_does_not_undo_what_was_seen(self) -> None:
        answer = Traffic().talk(A, K1).talk(A, K1, "not_known", at=7200).answer()
        assert fate(answer).state is State.OK

    @pytest.mark.parametrize("outcome", ["connect_only", "not_kms", "not_known", "bound"])
    def test_who_did_not_ask_has_no_fate(self, outcome: str) -> None:
        assert fate(Traffic().talk(A, K1, outcome).answer())[1:3] == (State.UNKNOWN, None)

    def test_told_no_host(self) -> None:
        answer = Traffic().srv(CONTOSO, clients=[A]).answer()
        assert fate(answer)[1:4] == (State.FAIL, Stage.SRV, DnsOutcome.NXDOMAIN)
        assert captured.people_of(answer).unserved(CONTOSO) == [A]

    def test_told_no_host_and_reached_one_all_the_same(self) -> None:
        answer = Traffic().srv(CONTOSO, clients=[A]).talk(A, K1).answer()
        assert fate(answer).state is State.OK
        assert captured.people_of(answer).unserved(CONTOSO) == []

    def test_told_a_host_by_another_suffix(self) -> None:
        answer = Traffic().srv("corp.example", clients=[A]).srv(CONTOSO, record("kms1"), clients=[A]).answer()
        assert fate(answer).state is State.UNKNOWN
        assert captured.people_of(answer).unserved("corp.example") == []

    def test_told_a_host_without_an_address(self) -> None:
        answer = Traffic().srv(CONTOSO, record("kms1"), clients=[A]).name("kms1.contoso.example").answer()
        assert fate(answer)[1:4] == (State.FAIL, Stage.NAME, DnsOutcome.NXDOMAIN)

    def test_one_of_two_targets_without_an_address_fails_nobody(self) -> None:
        traffic = Traffic().srv(CONTOSO, record("kms1"), record("kms2"), clients=[A])
        answer = traffic.name("kms1.contoso.example").name("kms2.contoso.example", K2).answer()
        assert fate(answer).state is State.UNKNOWN

    def test_a_port_scan_is_nobody_s_failure(self) -> None:
        traffic = Traffic()
        for number in range(captured.SCAN_HOSTS):
            traffic.talk(A, f"10.1.0.{number}", "refused")
        people = captured.people_of(traffic.answer())
        assert people.scanners == {A: captured.SCAN_HOSTS}
        assert people.fates[0].state is State.UNKNOWN
        assert captured.tried(traffic.answer().hosts, people) == []

    def test_many_dead_hosts_from_dns_are_no_port_scan(self) -> None:
        records = [record(f"k{number}") for number in range(captured.SCAN_HOSTS)]
        traffic = Traffic().srv(CONTOSO, *records, clients=[A])
        for number in range(captured.SCAN_HOSTS):
            traffic.talk(A, f"10.1.0.{number}", "refused")
        assert captured.people_of(traffic.answer()).scanners == {}


class TestLookups:
    def test_case_does_not_matter(self) -> None:
        answer = Traffic().srv(CONTOSO, record("kms1"), clients=[A]).answer()
        (lookup,) = captured.srv_lookups(answer)
        assert captured.domain_of(lookup) == CONTOSO

    def test_answered_once_is_answered(self) -> None:
        answer = Traffic().srv(CONTOSO, record("kms1"), clients=[A], others={"timeout": 9}).answer()
        assert captured.worst_of(answer.lookups[0]) is DnsOutcome.ANSWERED

    def test_other_channels_are_apart(self) -> None:
        answer = Traffic().srv(CONTOSO, clients=[A], channel=Channel.MDNS).answer()
        assert captured.srv_lookups(answer) == []
        assert len(captured.srv_lookups(answer, Channel.MDNS)) == 1

    def test_records_of_two_servers_are_one_whatever_their_ttl(self) -> None:
        answer = (
            Traffic()
            .srv(CONTOSO, record("kms1", ttl=3600), clients=[A])
            .srv(CONTOSO, record("kms1", ttl=17), clients=[B], server="10.1.0.3")
            .answer()
        )
        ((found, servers),) = captured.records(answer)[CONTOSO]
        assert found.target == "kms1.contoso.example"
        assert servers == ("10.1.0.2", "10.1.0.3")

    def test_an_address_is_its_own_name(self) -> None:
        assert captured.people_of(Traffic().answer()).addresses_of("10.1.0.8") == ["10.1.0.8"]
