"""Heads of quotations that name only who wrote: ``Ben wrote:``, without a date and an address.

A sentence of the expert's may look like one (``As Ben wrote:``), so a head is a line by itself, a name and a verb, and
a quotation follows it; a name has up to five words in capitals, and begins with none that begins a sentence.
"""

from __future__ import annotations

import re

from sft.demonstrations.messages import without_invisible

__all__ = ["names_a_writer"]

_VERBS = (
    "wrote|writes|schrieb|schreibt|a écrit|escribió|ha scritto|schreef|heeft geschreven|escreveu|skrev|skriver"
    r"|napisał(?:\(a\)|a)?|napsal(?:\(a\)|a)?|написала?|написал\(а\)|пишет|писала?|kirjoitti|írta|yazdı|şunları yazdı"
)
_HEAD = re.compile(rf"(?:[*•-] )?(?P<name>\S.{{0,80}}?) (?:{_VERBS}) ?[:：]")
#: Japanese, Chinese and Korean have no blank before the verb; Horde has the name behind it.
_OTHER_HEADS = re.compile(
    r"(?P<name>[^\s。、，,:：]{1,20}(?: [^\s。、，,:：]{1,20})?) ?(?:さん)?[はが](?:書きました|書いた|wrote) ?[:：]"
    r"|(?P<zh>[^\s。、，,:：]{1,20}(?: [^\s。、，,:：]{1,20})?) ?(?:写道|寫道) ?[:：]"
    r"|(?P<ko>[^\s。、，,:：]{1,20}) ?님이 (?:작성|쓴 글) ?[:：]"
    r"|(?:Quoting|Zitat von|Citando a|Citazione di|Citation de|Citerar|Quoting from) (?P<horde>[^:]{1,80}?) ?:"
)
_PARTICLE_WORDS = (
    "van von de der den del della di da do dos das du la le los bin ibn al el ten ter zu zur of y e und and"
)
_PARTICLES = frozenset(_PARTICLE_WORDS.split())
#: Words that begin a sentence and no name, in the languages of the verbs: conjunctions, articles, pronouns, adverbs.
_SENTENCE_BEGINS = """
as like what when where because but and so then here there how once yes no well thus since while if that this
these those he she they it we i you who somebody someone nobody everyone everybody earlier later yesterday today
recently below above also again my your his her our their the a an now first finally mr mrs ms indeed only
whatever whoever wie was als wenn weil aber und dann da dort hier denn ja nein er sie es wir ich ihr du wer
jemand niemand früher später gestern heute unten oben auch mein meine dein deine sein seine ihre unser unsere
euer der die das ein eine dieser diese herr frau man schließlich zuerst neulich kürzlich jetzt damals comme ce
que quand où parce mais et donc alors ici il elle ils elles on nous je vous tu qui quelqu'un hier mon ma mes ton
ta ses son sa notre votre leur le la les un une puis enfin selon como lo cuando donde porque pero y entonces
aquí él ella ellos nosotros yo usted quien alguien ayer hoy según mi su nuestro el los una luego come quello
quando dove perché ma e allora qui lui lei loro noi io voi egli chi qualcuno ieri oggi lo gli mio mia suo sua
poi zoals wat toen waar omdat maar en dus hij zij ze wij ik jij u wie iemand gisteren vandaag mijn jouw zijn
haar ons hun de het een daarna o os onde mas então aqui ele ela eles nós eu vocês você quem alguém ontem hoje
meu minha seu um uma depois som vad när var därför men och så då här han hon hun vi jag jeg ni vem hvem någon
igår idag min mitt din ditt vår ett den det sedan jak co kiedy gdzie bo ale i więc wtedy tu ona oni my ja wy kto
ktoś wczoraj dziś mój moja twój jego jej nasz ten potem jako když ale a pak včera dnes můj moje как что когда
где потому но и так тогда здесь он она они мы я вы кто вчера сегодня мой моя твой его её наш этот потом kuten
mitä kun mutta ja sitten hän he minä sinä eilen tänään ahogy mint amit amikor de és aztán ő ők én tegnap ma gibi
ne zaman ama ve sonra o onlar ben sen dün bugün
"""
_BEGIN_SENTENCES = frozenset(_SENTENCE_BEGINS.split()) - {"ben"}  # "I" in Turkish, and a name everywhere


def names_a_writer(line: str) -> bool:
    """Whether ``line`` is a name and a verb of writing, and nothing else; what follows it is not looked at."""
    line = without_invisible(line).strip()
    if (found := _OTHER_HEADS.fullmatch(line)) is not None:
        horde = found["horde"]
        return horde is None or _is_name(horde)
    found = _HEAD.fullmatch(line)
    return found is not None and _is_name(found["name"])


def _is_name(text: str) -> bool:
    text = re.sub(r"\s*[<(\[][^<>()\[\]]{1,80}[>)\]]\s*$", "", text).strip("\"'„“”«» ")
    words = text.split()
    if not 1 <= len(words) <= 5 or words[0].lower().strip(",.") in _BEGIN_SENTENCES:
        return False
    return all(_begins_a_name(word) or (place and word in _PARTICLES) for place, word in enumerate(words))


def _begins_a_name(word: str) -> bool:
    """A word in capitals, or of letters that know none; no figure, and no end of a sentence."""
    letters = word.strip("\"'.,-")
    if not letters or not letters[0].isalpha() or letters[0].islower():
        return False
    return not any(map(str.isdigit, letters)) and not (word.endswith((".", ",")) and len(letters) > 12)
