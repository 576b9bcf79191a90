import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsdiag.evidence.decode import decode

ENGLISH = "License Status: Licensed\nVolume activation expiration: 259200 minute(s) (180 day(s))\n"
GERMAN = "Lizenzstatus: Lizenziert\nVertrauenswürdige Zeit: 14.03.2026\nSchlüsselverwaltungsdienst für Geräte\n"
JAPANESE = "ライセンスの状態: ライセンスされています\n説明: VOLUME_KMSCLIENT channel\n構成された認証の種類: すべて\n"
CHINESE = "许可证状态: 已授权\n描述: VOLUME_KMSCLIENT channel\n密钥管理服务客户端信息\n批量激活过期时间\n"
TAIWANESE = "授權狀態: 已取得授權\n描述: VOLUME_KMSCLIENT channel\n金鑰管理服務用戶端資訊\n大量啟用到期\n"
KOREAN = "라이선스 상태: 사용 허가됨\n설명: VOLUME_KMSCLIENT channel\n키 관리 서비스 클라이언트 정보\n"
RUSSIAN = "Состояние лицензии: имеет лицензию\nОписание: VOLUME_KMSCLIENT channel\nСведения о клиенте службы\n"


class TestEncodings:
    @pytest.mark.parametrize("text", [ENGLISH, GERMAN, JAPANESE, RUSSIAN])
    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "utf-16", "utf-32"])
    def test_unicode_needs_no_guess(self, text: str, encoding: str) -> None:
        assert (decode(text.encode(encoding)).text, decode(text.encode(encoding)).notes) == (text, ())

    @pytest.mark.parametrize("text", [ENGLISH, GERMAN, JAPANESE, KOREAN])
    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
    def test_utf16_without_a_mark(self, text: str, encoding: str) -> None:
        found = decode(text.encode(encoding))
        assert (found.text, found.notes) == (text, (f"no byte order mark: taken as {encoding}",))

    def test_big_endian_with_a_mark(self) -> None:
        assert decode(codecs.BOM_UTF16_BE + GERMAN.encode("utf-16-be")).text == GERMAN
        assert decode(codecs.BOM_UTF32_BE + GERMAN.encode("utf-32-be")).text == GERMAN

    @pytest.mark.parametrize(
        ("text", "page"),
        [
            (GERMAN, "cp850"),
            (GERMAN, "cp1252"),
            (JAPANESE, "cp932"),
            (CHINESE, "cp936"),
            (KOREAN, "cp949"),
            (TAIWANESE, "cp950"),
            (RUSSIAN, "cp1251"),
            (RUSSIAN, "cp866"),
        ],
    )
    def test_code_pages(self, text: str, page: str) -> None:
        found = decode(text.encode(page))
        assert (found.text, found.encoding) == (text, page)
        assert found.notes == (f"not UTF-8: taken as code page {page[2:]}",)

    def test_console_of_the_united_states(self) -> None:
        assert decode(GERMAN.encode("cp437")).text == GERMAN

    @pytest.mark.parametrize("page", ["cp1250", "cp1254", "cp857", "cp1253", "cp775"])
    def test_ascii_is_right_in_every_code_page(self, page: str) -> None:
        text = "Durum: \xd6zel g\xfcn\nLicense Status: Licensed\n"
        found = decode(text.encode(page, "replace")).text
        assert "License Status: Licensed\n" in found


class TestMixtures:
    def test_cmd_added_to_a_file_of_powershell(self) -> None:
        more = "Name: Windows(R), Enterprise edition\r\nLicense Status: Licensed\r\n"
        data = codecs.BOM_UTF16_LE + GERMAN.encode("utf-16-le") + more.encode("ascii") + ENGLISH.encode("utf-16-le")
        found = decode(data)
        assert found.text == GERMAN + more.replace("\r\n", "\n") + ENGLISH
        assert "parts of one byte" in found.notes[0]

    def test_powershell_added_to_a_file_of_cmd(self) -> None:
        found = decode(ENGLISH.encode() + GERMAN.encode("utf-16-le"))
        assert found.text == ENGLISH + GERMAN

    def test_newlines_nuls_and_escapes(self) -> None:
        data = b"one\r\ntwo\r\r\nthree\rfour\n\x1b[32mgreen\x1b[0m\x1b]0;title\x07 \x00end\x1b"
        found = decode(data)
        assert found.text == "one\ntwo\nthree\nfour\ngreen end"
        assert len(found.notes) == 2

    def test_cut_within_a_character(self) -> None:
        assert decode(GERMAN.encode("utf-16")[:-3]).notes == ("the file ends within a character",)
        assert decode("Gerät: ü".encode()[:-1]).text == "Gerät: \ufffd"


class TestHostile:
    @given(st.binary(max_size=400))
    def test_never_raises(self, data: bytes) -> None:
        assert isinstance(decode(data).text, str)

    @given(st.text(max_size=200).filter(lambda text: not set(text) & set("\x00\x1b\r\ufeff\ufffd\u2028\u2029")))
    def test_utf8_is_kept(self, text: str) -> None:
        assert decode(text.encode()).text == text
