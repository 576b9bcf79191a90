import pytest

from kmsdiag.evidence.tools.labelled import Item, Label, Vocabulary, after, lines_of

TOOL = Vocabulary(
    (
        Label("size", "Sizeofbox:", r"\d+"),
        Label("owner", "Owner:", ends="Ltd"),
        Label("done", r"Allisdone\.", ""),
        Label("state", "State:", r"open(?:\(.*\))?|shut", words=True),
    ),
    ("Contoso", "Boxes"),
)


def items(text: str) -> list[Item]:
    return TOOL.items(lines_of(text))


class TestLines:
    def test_quotes_blanks_and_invisible_characters_go(self) -> None:
        lines = lines_of("\ufeff> > Size\u200b of box\uff1a 4\r\n\r\n|  b \n\x00\n")
        assert [(line.number, line.text, line.solid) for line in lines] == [
            (1, "Size of box: 4", "Sizeofbox:4"),
            (3, "b", "b"),
        ]

    def test_after(self) -> None:
        assert after("a b: c d", 3) == "c d"
        assert after("ab", 5) == ""


class TestItems:
    @pytest.mark.parametrize("text", ["Size of box: 42", "Size o\nf box:\n42", "  Size of\n   box: 42\n"])
    def test_label_in_pieces(self, text: str) -> None:
        assert [(one.key, one.value) for one in items(text)] == [("size", "42")]

    def test_number_that_a_console_cut(self) -> None:
        assert items("Size of box: 4\n2\nState: shut")[0].value == "42"

    def test_number_that_other_text_follows(self) -> None:
        assert items("Size of box: 4\n2 more lines\nState: shut")[0].value == "4"
        assert items("Size of box: 4\n\n" + "x" * 60 + "\n2")[0].value == "4"

    def test_value_of_another_form(self) -> None:
        assert items("Size of box: large\n") == [Item("size", "large", 0, 0, fits=False)]

    def test_words_that_were_broken(self) -> None:
        assert items("Owner: Cont\noso Boxes Ltd\nState: shut")[0].value == "Contoso Boxes Ltd"
        assert items("Owner: Contoso\nBoxes Ltd\nState: shut")[0].value == "Contoso Boxes Ltd"

    def test_words_end(self) -> None:
        assert [one.value for one in items("Owner: Boxes Ltd\nmore\nState: shut")] == ["Boxes Ltd", "shut"]

    def test_form_with_words(self) -> None:
        assert items("State: open (since\nlast year)\nSize of box: 1")[0].value == "open(sincelastyear)"

    def test_list_of_another_tool(self) -> None:
        assert items("Size of box   : 42") == []

    def test_message(self) -> None:
        assert items("All is\ndone. Bye") == [Item("done", "Bye", 0, 1)]
