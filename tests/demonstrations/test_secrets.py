"""Secrets in any bytes: each kind is found in text and in binaries, is never repeated, and chance makes none."""

from __future__ import annotations

import base64
import json
import mmap
import pickle
import random
import string
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from sft.demonstrations.demonstration import Demonstration, Message, Source
from sft.demonstrations.secrets import Finding, detectors, in_demonstrations, secrets_in

NOWHERE: dict[str, str] = {}


def drawn(count: int, letters: str = string.ascii_letters + string.digits, seed: int = 7) -> str:
    """``count`` random letters, made here so that no scanner of repositories takes this file for a leak."""
    return "".join(random.Random(seed).choices(letters, k=count))


UPPER = string.ascii_uppercase + string.digits
TOKENS = {
    "a Hugging Face token": "hf_" + drawn(34),
    "a Hugging Face organisation token": "api_org_" + drawn(34),
    "a secret key (OpenAI, Anthropic and others)": "sk-proj-" + drawn(48),
    "a GitHub token": "ghp_" + drawn(36),
    "a GitLab token": "glpat-" + drawn(20),
    "an AWS access key": "AKIA" + drawn(16, UPPER),
    "a Google API key": "AIza" + drawn(35),
    "a Slack token": "xoxb-" + drawn(12, string.digits) + "-" + drawn(24),
    "a Stripe key": "sk_live_" + drawn(24),
    "an npm token": "npm_" + drawn(36),
    "a PyPI token": "pypi-AgE" + drawn(60),
    "a JSON web token": f"eyJ{drawn(20)}.eyJ{drawn(40)}.{drawn(43)}",
    "a private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "a password in a URL": "postgres://ann:" + drawn(12) + "@db.internal/x",
    "an AWS secret key": "aws_secret_access_key = " + drawn(40),
    "a Groq key": "gsk_" + drawn(52),
    "an xAI key": "xai-" + drawn(80),
    "a Perplexity key": "pplx-" + drawn(48),
    "a Replicate token": "r8_" + drawn(37),
    "a Weights & Biases key": "WANDB_API_KEY=" + drawn(40, "0123456789abcdef"),
    "a Cohere key": "CO_API_KEY=" + drawn(40),
    "a Google client secret": "GOCSPX-" + drawn(28),
    "a Google access token": "ya29." + drawn(60),
    "an Azure signature": "sig=" + drawn(43) + "%3D",
    "a DigitalOcean token": "dop_v1_" + drawn(64, "0123456789abcdef"),
    "a Heroku token": "HRKU-" + drawn(40),
    "a Stripe webhook's secret": "whsec_" + drawn(32),
    "a Shopify token": "shpat_" + drawn(32, "0123456789abcdef"),
    "a Docker token": "dckr_pat_" + drawn(27),
    "a Databricks token": "dapi" + drawn(32, "0123456789abcdef"),
    "a Linear key": "lin_api_" + drawn(40),
    "a Notion token": "ntn_" + drawn(46),
    "a Vault token": "hvs." + drawn(90),
    "an age key": "AGE-SECRET-KEY-1" + drawn(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"),
    "a Terraform token": ".atlasv1." + drawn(67),
}
#: What has no prefix: the words before it say what it is, in text.
NAMED = {
    'password = "{}"': ("a password or key", "Tr0ub4dor&3"),
    "DB_PASSWORD={}": ("a password or key", "Tr0ub4dor&3"),
    "'api_key': '{}'": ("a password or key", drawn(30)),
    'os.environ["CLIENT_SECRET"] = "{}"': ("a password or key", "hunter2x"),
    "Authorization: Basic {}": ("a basic header", base64.b64encode(f"ann:{drawn(9)}".encode()).decode()),
    "curl -H 'Authorization: Bearer {}'": ("a bearer header", drawn(40)),
    "to {}, please": ("an IBAN", "DE89 3704 0044 0532 0130 00"),
    "with {}": ("a card number", "4111 1111 1111 1111"),
    "call {}": ("a telephone number", "+44 20 7946 0958"),
}
#: What the library's detectors know, in text.
HEX = "0123456789abcdef"
DETECTED = {
    "a GitLab Token": "gldt-" + drawn(20),
    "an AWS Access Key": "ACCA" + drawn(16, UPPER),
    "a Slack Token": f"https://hooks.slack.com/services/T{drawn(8, UPPER)}/B{drawn(8, UPPER)}/{drawn(24)}",
    "an Azure Storage Account access key": "AccountKey=" + drawn(86) + "==",
    "a SendGrid API Key": f"SG.{drawn(22)}.{drawn(43)}",
    "a Twilio API Key": "SK" + drawn(32, HEX),
    "a Mailchimp Access Key": drawn(32, HEX) + "-us12",
    "a Square OAuth Secret": "sq0csp-" + drawn(43),
    "a Telegram Bot Token": f"{drawn(9, '123456789')}:{drawn(35)}",
    "a Discord Bot Token": f"M{drawn(23)}.{drawn(6)}.{drawn(27)}",
    "Artifactory Credentials": "AKC" + drawn(40),
}


@pytest.mark.parametrize(("what", "token"), TOKENS.items())
def test_every_kind_is_found_in_text_pickles_and_weights_and_not_repeated(what: str, token: str) -> None:
    text = f"first line\nkey = {token}\n".encode()
    binaries = {
        "args.bin": pickle.dumps({"hub_token": token, "steps": 4}),
        "w.safetensors": save({"w": np.zeros(4, np.float32)}, metadata={"note": token}),
    }
    (found,) = secrets_in("notes.txt", text, environment=NOWHERE)
    assert (found.path, found.what, found.line) == ("notes.txt", what, 2)
    assert token not in str(found) and token[12:24] not in str(found)
    for name, data in binaries.items():
        (again,) = secrets_in(name, data, environment=NOWHERE)
        assert (again.path, again.what, again.line, again.id) == (name, what, None, found.id)


@pytest.mark.parametrize(("what", "token"), DETECTED.items())
def test_what_the_library_knows_is_found_in_text_at_its_line(what: str, token: str) -> None:
    """Behind letters that take two bytes too; its id is the value's, in a row as in a file."""
    text = f"\N{GREEK SMALL LETTER ALPHA}\N{GREEK SMALL LETTER BETA}\nkey: {token} \N{LEFT DOUBLE QUOTATION MARK}x"
    (found,) = secrets_in("notes.txt", text.encode(), environment=NOWHERE)
    assert (found.what, found.line) == (what, 2) and token[12:24] not in str(found)
    (again,) = in_demonstrations([row(7, "which?", f"It is {token}")], environment=NOWHERE)
    assert (again.id, again.address) == (found.id, "x.jsonl:7")


@pytest.mark.parametrize("words", NAMED)
def test_what_has_no_prefix_is_known_by_the_words_before_it_or_by_its_checksum(words: str) -> None:
    """Where people wrote, numbers of people count as well; and what is shown to judge by does not give it away."""
    what, value = NAMED[words]
    text = f"It is\n{words.format(value)}\nsee?"
    (found,) = in_demonstrations([row(3, "which?", text)], environment=NOWHERE)
    (again,) = secrets_in("notes.txt", text.encode(), environment=NOWHERE, people=True)
    assert (found.what, again.what, again.line, again.id) == (what, what, 2, found.id)
    assert found.around == again.around == words.format("[...]") and value[4:] not in str(found)


def test_hosts_of_a_network_of_ones_own_count_in_settings_alone() -> None:
    text = b"# ask db01.acme.corp or 10.20.30.40, not example.com, 8.8.8.8, 1.10.2.3.4 or a.local.txt"
    assert secrets_in("x", text, environment=NOWHERE) == []
    found = secrets_in("x", text, environment=NOWHERE, settings=True)
    assert [(one.what, one.line) for one in found] == [("an internal host", 1)] * 2


def test_every_detector_of_the_library_that_is_asked_is_one_of_these() -> None:
    """A version of the library with another detector fails here: look what it says of people's writing first."""
    assert {what for what, _ in detectors()} == set(DETECTED)


@pytest.mark.parametrize("token", [*TOKENS.values(), *DETECTED.values()])
def test_a_token_is_told_once_though_two_know_it(token: str) -> None:
    """The password's ``word@host`` is no address of anybody either."""
    assert len(in_demonstrations([row(1, "which?", f"use {token} .")], environment=NOWHERE)) == 1


def test_a_line_without_end_takes_no_more_than_its_length() -> None:
    """A megabyte in one line, full of beginnings: some patterns would try each with all the rest, for hours."""
    text = "".join(f"//a{n}/eyJ-sk-xoxb-AKC.SG.{n}@" for n in range(40000))
    assert in_demonstrations([row(1, "which?", text)], environment=NOWHERE) == []


def test_two_private_keys_are_two_findings() -> None:
    """They begin alike; whoever allows a textbook's must not allow the next. JSON's line ends change nothing."""
    keys = [f"-----BEGIN RSA PRIVATE KEY-----\n{drawn(64, seed=s)}\n{drawn(64, seed=s + 9)}\n" for s in (1, 2)]
    one, two = (secrets_in("x", key.encode(), environment=NOWHERE)[0] for key in keys)
    assert one.id != two.id and drawn(64, seed=1)[:12] not in str(one)
    assert secrets_in("x", json.dumps({"k": keys[0]}).encode(), environment=NOWHERE)[0].id == one.id


def test_the_same_secret_has_one_id_wherever_it_is_and_is_told_once_a_file() -> None:
    token = TOKENS["a GitHub token"].encode()
    one = secrets_in("a", token + b"\n" + token, environment=NOWHERE)
    two = secrets_in("b", b"x " + token, environment=NOWHERE)
    assert len(one) == 1 and one[0].line == 1
    assert one[0].id == two[0].id and len(one[0].id) == 12
    assert secrets_in("a", b"ghp_" + drawn(36, seed=8).encode(), environment=NOWHERE)[0].id != one[0].id


@pytest.mark.parametrize(
    "text",
    [
        "hf_hub_download(repo_id) and hf_transfer",
        "HF_TOKEN=hf_" + "x" * 34,
        "AKIAIOSFODNN7EXAMPLE",  # the key of Amazon's documentation
        "task-" + drawn(40),
        "sk-learn-and-other-kebab-case-names-of-things",
        "ghp_short",
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----",
        "http://host:8000/path@2x.png",
        "https://user:password@host and https://${USER}:<token>@host",
        "eyJhbGciOiJIUzI1NiJ9",
        "git@github.com:owner/name.git",
        "arn:aws:sns:us-east-1:123456789012:MySNSTopicForNotificationsAboutMyDemo",  # no Telegram bot
        "ACCAB4B77DEE1C1E536A" + "0F3B",
        " APDescriptionOfIt ",
        "ACCAEXAMPLE123EXAMPL",
        'aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"',
        "SG." + "x" * 22 + "." + "x" * 43,
        "password = 'password1' and password: required, token = \"<your token>\", 10.0.0.1",
        "",
    ],
)
def test_what_only_looks_like_one_is_none(text: str) -> None:
    assert secrets_in("x", text.encode(), environment=NOWHERE) == []


def test_chance_makes_none_in_random_weights() -> None:
    """32 MB of random bytes hold every prefix of three letters about twice."""
    data = np.random.default_rng(0).bytes(32 << 20)
    assert data.count(b"hf_") + data.count(b"sk-") > 0
    assert secrets_in("model.safetensors", data, environment={"HOME": "/home/annabel", "USER": "annabel"}) == []


ENVIRONMENT = {
    "HF_TOKEN": "not-of-any-known-shape-4711",
    "DB_PASSWORD": 'quo"ted\\pass',
    "PGPASSWORD": "Tr0ub4dor",
    "MYSQL_PWD": "short",
    "AUTH_MODE": "anonymous",
    "API_KEY": "certificate",
    "LICENSE_KEY": "12345678",
    "SSH_AUTH_SOCK": "/run/user/1000/agent",
    "KEY_FILE": "an-ordinary-file-name",
    "GREETING": "good-morning-everybody",
    "HOME": "/home/annabel",
    "LOGNAME": "annabel",
}


def whats(text: str, environment: dict[str, str] = ENVIRONMENT) -> set[str]:
    return {finding.what for finding in secrets_in("x", text.encode(), environment=environment)}


def test_values_of_secret_looking_variables() -> None:
    assert whats("so not-of-any-known-shape-4711.") == {"the value of HF_TOKEN"}
    assert whats("see Tr0ub4dor") == {"the value of PGPASSWORD"}
    # However JSON writes it, it is the same secret.
    plain = secrets_in("x", b'it is quo"ted\\pass', environment=ENVIRONMENT)
    written = secrets_in("x", json.dumps({"k": 'quo"ted\\pass'}).encode(), environment=ENVIRONMENT)
    assert [f.what for f in plain] == ["the value of DB_PASSWORD"] and plain[0].id == written[0].id
    assert "quo" not in str(plain[0])


def test_values_that_every_text_could_hold_are_none() -> None:
    """Short ones, words, numbers, paths, and variables that tell where a secret is and not what it is."""
    text = "short anonymous certificate 12345678 /run/user/1000/agent an-ordinary-file-name good-morning-everybody"
    assert whats(text) == set()
    assert whats("abcdefghijklmnopqrst", {"API_KEY": "abcdefghijklmnopqrst"}) == {"the value of API_KEY"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sha256 44f4111111111111111a01dfadf4194c8c3f19d5f28746fdd85", False),  # 16 digits of it pass the checksum
        ("part-4111111111111111x", False),
        ("卡号4111111111111111。", True),
        ("card:4111-1111-1111-1111;", True),
    ],
)
def test_digits_within_a_hash_are_no_card(text: str, found: bool) -> None:
    """A push was refused for the hash of its own file, one in some hundred."""
    kinds = {one.what for one in secrets_in("x", text.encode(), environment=NOWHERE, people=True)}
    assert ("a card number" in kinds) is found


def test_a_path_is_no_secret_where_it_exists(tmp_path: Path) -> None:
    assert whats(f"in {tmp_path}", {"MY_KEY": str(tmp_path)}) == set()
    assert whats("/lO9+base64/begins/so", {"MY_KEY": "/lO9+base64/begins/so"}) == {"the value of MY_KEY"}


def test_home_folder_and_user_name() -> None:
    home, user = "this machine's home folder", "this machine's user name"
    assert whats('"/home/annabel/run"') == {home, user}
    assert whats("/home/annabelle and annabelle, hannabel, annabel_2") == set()
    assert whats("by \N{LEFT DOUBLE QUOTATION MARK}annabel\N{RIGHT DOUBLE QUOTATION MARK}") == {user}
    assert whats("C:\\\\Users\\\\ann\\\\x", {"HOME": "C:\\Users\\ann"}) == {home}  # as JSON writes it


@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": "/root", "USER": "root"},
        {"HOME": "/", "USER": "a"},
        {"HOME": "", "LOGNAME": "anna"},
        {"USER": "runner"},
    ],
)
def test_what_many_are_called_says_nothing(environment: dict[str, str]) -> None:
    assert whats("root a anna runner / /root/.cache", environment) == set()


def test_the_process_s_own_environment_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "value-of-this-test-0815")
    monkeypatch.setenv("HOME", "/home/somebody-else")
    found = secrets_in("x", b"value-of-this-test-0815 /home/somebody-else/x")
    assert {f.what for f in found} == {"the value of SOME_TOKEN", "this machine's home folder"}


def test_a_file_that_is_mapped_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(b"\0" * 4096 + TOKENS["a Hugging Face token"].encode() + b"\0" * 4096)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert [f.what for f in secrets_in("w.bin", data, environment=NOWHERE)] == ["a Hugging Face token"]


def row(number: int, prompt: str, completion: str, *references: str) -> Demonstration:
    return Demonstration(
        (Message("user", prompt),), completion, source=Source("x.jsonl", number), references=references
    )


def test_demonstrations_are_found_by_file_and_line_each_value_once() -> None:
    token = TOKENS["a Hugging Face token"]
    rows = [row(n, f"prompt {n}", f"answer {n}") for n in range(1, 6000)]
    rows[4999] = row(5000, f"use {token}", "yes")
    rows[5000] = row(5001, f"again {token}", "write to Ann.Lee@acme.co.uk", "or /home/ann/x and C:\\Users\\bob")
    found = in_demonstrations(rows, environment=NOWHERE)
    assert [(f.address, f.what) for f in found] == [
        ("x.jsonl:5000", "a Hugging Face token"),
        ("x.jsonl:5001", "an e-mail address"),
        ("x.jsonl:5001", "a home folder"),
        ("x.jsonl:5001", "a home folder"),
    ]
    assert found[0].id == secrets_in("y", token.encode(), environment=NOWHERE)[0].id
    assert found[0].others == ("x.jsonl:5001",) and found[1].others == ()
    assert not any("Ann" in str(f) or "bob" in str(f) for f in found)


def test_addresses_of_nobody_are_none() -> None:
    text = "ann@example.com, x@mail.example.org, a@b.invalid, /home/user/x, /Users/me, ${a}@b, @twisted, f(a@b)"
    assert in_demonstrations([row(1, text, "yes")], environment=NOWHERE) == []


def test_a_demonstration_from_no_file_has_its_id_for_an_address() -> None:
    d = Demonstration((Message("user", "who?"),), "ann@acme.com")
    (found,) = in_demonstrations([d], environment=NOWHERE)
    assert found.address == d.address and found.line is None


def test_a_finding_is_one_line() -> None:
    assert str(Finding("0123", "a.txt", "a GitHub token", "ghp_… (40 characters)", 3)) == (
        "a.txt:3: a GitHub token, ghp_… (40 characters) (id 0123)"
    )
    often = Finding("0", "a", "b", "c", 1, tuple(f"a:{n}" for n in range(2, 2000)))
    assert str(often) == "a:1 (also a:2, a:3, a:4, 1,995 more): b, c (id 0)"


#: What Presidio's recognisers are sure of, and what has their form and a wrong checksum, or none.
BY_PRESIDIO = {
    "1BoatSLRHtKNngkdXEeobR76b53LETtpyT": "a purse of a cryptocurrency",
    "192.0.2.146": "an IP address",
    "00:1A:2B:3C:4D:5E": "a MAC address",
    "131052-308T": "a Finnish identity code",
    "X1234567L": "a Spanish foreigner's number",
    "RSSMRA85T10A562S": "an Italian tax code",
}
HARMLESS = ("1BoatSLRHtKNngkdXEeobR76b53LETtpyU", "version 1.2.3", "131052-308U", "X1234567M", "10:15 to 11:00", "::")


@pytest.mark.parametrize("text", [*BY_PRESIDIO, *HARMLESS])
def test_presidio_is_asked_where_it_is_installed_and_believed_where_it_is_sure(text: str) -> None:
    pytest.importorskip("presidio_analyzer")
    found = in_demonstrations([row(1, "which?", f"It is \N{GREEK SMALL LETTER ALPHA} {text} .")], environment=NOWHERE)
    assert [one.what for one in found] == ([BY_PRESIDIO[text]] if text in BY_PRESIDIO else [])
    assert text not in str(found)
