"""Distinguish content specific to an image from generic wording in a thought, with word lists and without a model.

The lists hold function words (articles, pronouns, prepositions, auxiliaries) and generic words about looking, reasoning
and answering. Words are folded: lower case, plain quotes.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise

from ..prompting.words import WORD, fold, plain_form
from ..types import Responses

__all__ = [
    "FUNCTION_WORDS",
    "MANNERS",
    "UNSPACED_MANNERS",
    "admits_guess",
    "count_own_words",
    "count_words",
    "has_own_pairs",
    "names_answer",
    "plain_forms",
    "readable",
    "unspaced",
    "without_announcements",
    "words_of",
]

_FUNCTION = {
    "English": """
        a about above after again against all almost along also although always am among an and another any are
        around as at away back be because been before behind being below beneath beside besides between beyond both
        but by can could did do does doing down during each either else enough even ever every few first for from
        further had has have having he her here hers him his how however i if in inside instead into is it its
        itself just last least less like many may me might more most much must my near neither never next no nor not
        nothing now of off often on once one only onto or other others our out outside over own per quite rather
        same second several shall she should since so some something still such than that the their them then there
        these they this those though through thus to together too toward towards under until up upon us very was we
        were what when where whereas whether which while who whole whom whose why will with within without would yes
        yet you your""",
    "German": """
        aber alle als also am an andere auch auf aus bei beide beiden bin bis da daher damit dann daran darauf das
        dass dazu dazwischen dem den denn der des deshalb die dies diese diesem diesen dieser dieses doch dort durch
        ein eine einem einen einer eines er es etwas für gegen haben hat hier hinter ich ihr im in ist ja jede jeder
        kann kein keine keiner man mehr mit nach neben nicht nichts noch nur ob oder ohne schon sehr sein seine sich
        sie sind so um und uns unten unter vom von vor war was weil welche welcher wenn wer wie wird wo wohl zu zum
        zur zwar zwischen über""",
    "French": """
        a au aucun aussi autre aux avec c'est car ce cela ces cette chaque comme d'un d'une dans de des deux donc du
        elle elles en entre est et fait il ils je l'on la le les leur lui mais moins même n'est ne ni non nous on
        ont ou où par pas plus pour qu'il que quel quelle qui sa sans se ses si son sont sous sur tout très un une
        vers voit vous y à être""",
    "Spanish, Portuguese": """
        a abaixo acima ainda al algo ante ao aos aqui aquí así aunque cada com como con cuando da das de del desde
        do donde dos e el ella ellos em en entre era eran es esa ese eso esta este esto está están foi hay há isso
        já la las le lo los lugar mais mas me menos mi muy más na nas nem nenhum nenhuma ni no nos não o os otra
        otro ou para pela pelo pero por porque que qué se sem ser si sin sobre solo son su sus são só también tem
        tiene todo tu um uma un una unos y ya é""",
    "Italian": """
        a ad ai al alla allo anche c'è che chi ci come con cosa da dal dalla dei del della delle di dove e ed era
        fra gli ha ho i il in io la le lo ma mentre nel nella nelle nessun nessuno non o ogni per perché più poi qua
        quale quando quella quello questa questo qui quindi se si sono sopra sotto su sua sul sulla suo tra tutti un
        una uno è""",
    "Dutch, Swedish, Danish, Norwegian": """
        aan af alla alle als andra andre att av bij da dan dat de den denne der dermed det dette deze die dit door
        du een efter eller en er ett for fra från för geen had har heeft het hier hij hvor i ik ikke in inte is ja
        jag jeg kan kun maar med meer men met mot mycket naar naast niet noch nog nu någon och of og om omdat onder
        ook op over på samma sig som så te till tot uit under ur van var vara ved vi voor waar wat we wel werd wordt
        zijn zo är""",
    "Polish, Czech, Turkish, Indonesian, Vietnamese, Romanian, Hungarian, Finnish": """
        a ada adalah ale ama az bir bo bu bunun by być care cho cu có că của da daha dan dari de dengan di dla do
        egy ein ene ez fi gibi hem i ile ini itu için ja jak jako je jest jsou już karena każdy ke không ki kteri
        która które który la lub là mai med mutta một na nad nagy nem những nie niż o od olan on ona ova pada po pod
        pro przez przy před s sa se si się să są tak také tapi tego ten tento teraz to trong tu tym u un v var ve
        veya và với w więc yang z za ze är được şi že și ở""",
}
FUNCTION_WORDS = frozenset(word for words in _FUNCTION.values() for word in words.split())

# Generic words about images, looking, reasoning and answering that fit any question.
_MANNER = {
    "English": """
        able absolutely accordingly actually add additionally admit admittedly agree allow analyse analysis
        analyze answer anyone anything anyway apparent apparently appear appearance approach appropriate
        arbitrary argue aspect assess assume assumption attention attentive available bbox aware based basis begin
        behold believe best better bit blank can't cannot caption careful carefully case certain certainly
        certainty check choice choose chose chosen clear clearly close closely come compare complete completely
        conclude conclusion confidence confident confidently confirm consequently consider consideration
        considering consistent content context correct correctly correspond couldn't decide decision deduce
        deduction deep deeply definite definitely deliberate deliberation demonstrate depict describe
        description despite detail detailed details determine didn't diligent direct directly discern display
        doesn't don't doubt draw due ease easily easy element end ensure entire entirely especially establish
        evaluate evaluation evidence evident evidently exact exactly examination examine exclude exist explain
        explanation express extent eye fact fairly feature feel final finally find firm fit focus follow
        following form found full fully further general generally get give given glance go going good great
        guess happen hard help hence highly hmm honest honestly idea identify illustrate image impression
        include includes indeed indicate infer inference information inspect inspection instruction intuition
        issue job judge judgement judgment keep key kind know knowledge known label lead let let's letter like likely
        list listed logic logical logically look looking made make manner match matter maybe mean meaning mention
        method mind moment multiple must namely natural naturally necessary need note notice number object
        observation observe observing obvious obviously okay option options order overall particular
        particularly perfectly perhaps photo photograph pick picked picture piece plain plainly ponder
        possibility possible possibly precise precisely present presumably probable probably proceed process
        proper properly prove provide provided purely put question quickly random randomly rationale reach read
        readily really reason reasonable reasoning recall recognise recognize refer reflect regard regarding
        relevant reliable rely remain remaining reply require respond response rest result reveal review right
        rule safe said say scan scene scrutinize scrutiny see seem seen select selected selection sense sensible
        show shown shows simple simply situation solution solve sort speak specific specifically start state
        statement step steps straightforward strong strongly study subject suggest suit suitable suppose sure
        surely take task tell test text therefore thing things think thinking thorough thoroughly thought
        thoughtful tick time total totally trick true truly trust truth try turn uncertain understand
        understanding undoubtedly unmistakable unmistakably use using usual valid verify view viewing visible
        visual visually wait want way weigh well whatever wise won't wonder word work wrong zoom""",
    "German": """
        also antwort auswahl betrachte betrachten bild buchstabe deutlich eindeutig ergebnis erkennen folglich
        foto frage genau klar lautet lösung möglich möglichkeit offensichtlich option richtig richtige scheint
        schritt sehe sehen sicher sichtbar siehe somit sorgfältig stimmt wahrscheinlich wähle zeigt ziemlich
        überlege überlegung""",
    "French": """
        bonne choisis choix clairement correcte donc image montre option pense photo question regardant regarde
        réfléchis réponse soigneusement vois voit étape évidemment évident""",
    "Spanish, Portuguese": """
        claramente correcta correta cuidadosamente elijo entonces escolho evidentemente foto imagem imagen
        mirando miro muestra opción opção paso pergunta pienso portanto pregunta resposta respuesta tanto vejo
        veo""",
    "Italian": """
        attentamente chiaramente corretta domanda dunque guardo immagine mostra opzione penso risposta scelgo
        vedo""",
}
MANNERS = frozenset(form for words in _MANNER.values() for word in words.split() for form in (word, plain_form(word)))

# The same for scripts without spaces, by character, with the most common function characters.
UNSPACED_MANNERS = frozenset(
    "的是了在和有这那个一不为所以因此于我你他它也都就而但与及或从到对把被让会能可要应该得着过呢吗吧啊其之"
    "答案选择项图片像画面看见到观察仔细认思考想推理分析正确明显清楚显然确定最终结论问题根据可能知道题猜"
    "はがをにでとのもへやからまでですますたてるれいうえしこそれあ見画像答正解選択肢思考"
    "은는이가을를에서의와과도로하다고것수있답정림그"
)

_ADJECTIVES = ("very ", "long ", "short ", "detailed ", "careful ")
# A match begins with the first of several, so that a loop of them takes linear time.
_NOT_AFTER_ADJECTIVE = "".join(rf"(?<!\b{adjective})" for adjective in _ADJECTIVES)
# A sentence that only announces thinking, or its purpose, but not its subject.
_ANNOUNCED = re.compile(
    r"\b(?:i|we)(?:'ll|'m going to| (?:will|shall|must|should|need to|have to|want to|am going to|am supposed to))"
    r"(?: (?:now|first|next|also|just|simply|carefully|then))*"
    r" (?:think|reason|write|produce|generate|output|pretend|elaborate|ponder|reflect|deliberate|give|provide)\b"
    r"[^.!?;:\n]*"
    rf"|\b{_NOT_AFTER_ADJECTIVE}(?:{'|'.join(_ADJECTIVES)})*(?:chain|train|line)s? of (?:thoughts?|reasoning)\b"
    r"|\b(?:get|earn|gain|receive|obtain|maximi[sz]e|collect|for)(?: \w+){0,3}? rewards?\b"
)
_BLIND = r"(?:can ?not|can'?t|could ?not|couldn'?t|unable to|do not|don'?t|did not|didn'?t|never|impossible to|without)"
_SEE = (
    r"(?:see|seeing|view|viewing|access|open|look|looking|perceive|inspect|inspecting|examine|examining|load|process)"
)
_IMAGE = r"(?:images?|pictures?|photos?|photographs?|figure|scene)"
_ABSENT = r"(?:visible|available|provided|given|shown|attached|loaded|load|seen|accessible|displayed|viewed|opened)"
_PICK = r"(?:guess|pick|choos|select|answer)\w*"
_GUESSES = re.compile(
    "|".join(
        (
            rf"\b(?:not able to|no way to|{_BLIND}) (?:\w+ ){{0,2}}?{_SEE}(?: at)?(?: \w+){{0,2}}? {_IMAGE}\b",
            rf"\b{_IMAGE} (?:is|was|has|does|could|can) ?(?:not|n't|never)(?: \w+){{0,2}} {_ABSENT}\b",
            rf"\b(?:no|missing|without (?:an?|the|any)) (?:{_IMAGE}|visual|evidence)\b",
            r"\b(?:i|i'll|i'm|i'd|we|just|simply|only|must|to|will|wild|pure|random|blind|lucky|mere)"
            r"(?: (?:am|have to|will|can|would|shall|just|simply|only|am going to|'ll))* guess(?:ing)?\b",
            r"\bguess(?:ing)? (?:blindly|randomly|at random|without)\b|\bit is (?:just |only )?a guess\b",
            rf"\bat random\b|\brandomly {_PICK}|\b{_PICK}(?: \w+){{0,3}} (?:randomly|arbitrarily|blindly)\b",
            r"\b(?:just|only|mere|pure) (?:an? )?(?:hunch|gut feeling)\b|\bwithout (?:checking|looking)\b",
            r"\barbitrary (?:choice|pick|guess|answer)\b|\bflip(?:ped|ping)? a coin\b",
            r"\bkann (?:ich )?(?:das|die|kein|keine) \w+ nicht (?:sehen|erkennen)",
            r"\brate (?:ich )?(?:einfach|nur|blind)\b",
            r"\bich (?:einfach |nur |blind )*rate\b|\bgeraten\b|\bzufällig",
            r"\bau hasard\b|\bje devine\b|\bal azar\b|\badivin",
            r"看不[到见清]|无法看|没有图|没看到|随便|随机|瞎猜|我猜|猜一个|見えない|推測で|当てずっぽう",
        )
    )
)
# Every sentence in ASCII that admits a guess contains one of these words.
_GUESS = """
    arbitrarily arbitrary blindly flip flipped flipping guess guessed guessing random cannot can't couldn't didn't
    doesn't don't impossible isn't missing never no not randomly unable wasn't without hunch gut lucky kann rate
    geraten hasard devine azar adivino"""
_HINTS = frozenset(_GUESS.split())
_INVISIBLE = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0]"
)
_TOKENS = re.compile(rf"{WORD}+(?:'{WORD}+)*|[^\W\d_]")
_STOPS = re.compile(r"[.!?:;\n]")
_LETTERS = frozenset("bcdefghjklmnopqrstuvwxyz")  # "a" and "i" are words
_PREFIX_LENGTH = 4  # so that "rightward" and "right" are the same word
_HIDDEN = re.compile(r"<!--.*?(?:-->|$)|</?[a-z][^<>]{0,40}>", re.DOTALL)


@lru_cache(maxsize=2048)
def readable(thought: str) -> str:
    """Return the visible text of a thought, folded, without zero-width characters, comments and tags."""
    return fold(_HIDDEN.sub(" ", _INVISIBLE.sub("", thought)))


@lru_cache(maxsize=2048)
def words_of(thought: str) -> tuple[str, ...]:
    """Return a thought's words and numbers, folded; in scripts without spaces between words, its characters."""
    return tuple(_TOKENS.findall(readable(thought)))


def unspaced(words: Iterable[str]) -> list[str]:
    """Return the words that are single characters of a script without spaces between words."""
    return [word for word in words if len(word) == 1 and word >= "\u0e00"]


def count_words(thought: str) -> float:
    """Return the number of visible words; in scripts without spaces between words, two characters are one word."""
    words = words_of(thought)
    return len(words) - (0 if thought.isascii() else len(unspaced(words)) / 2)


@lru_cache(maxsize=2048)
def without_announcements(thought: str) -> str:
    """Return the visible text of a thought without sentences that only announce thinking.

    Example:
        >>> without_announcements("I will now think about it in detail. The bird is green.")
        '. the bird is green.'
    """
    return _ANNOUNCED.sub("", readable(thought))


def admits_guess(thought: str) -> bool:
    """Return whether a thought admits to guessing or to seeing no image."""
    if thought.isascii() and _HINTS.isdisjoint(words_of(thought)):
        return False
    return _GUESSES.search(" ".join(readable(thought).split())) is not None


def names_answer(responses: Responses, row: int) -> bool:
    """Return whether a row's thought names the given answer, or a word of it that not all options share."""
    from ..prompting.mentions import Reading  # its patterns take a while to compile

    choice, order, options = int(responses.choice[row]), responses.order[row], responses.options[row]
    thought = responses.think[row]
    if choice < 0 or choice not in order or not thought.strip():
        return False
    place = order.index(choice)
    if _letter(responses.letters[row][place]).search(thought):
        return True
    common = set.intersection(*map(_prefixes, options))
    own = _prefixes(options[place]) - common
    if own and any(word[:_PREFIX_LENGTH] in own for word in words_of(thought) if word not in FUNCTION_WORDS):
        return True
    reading = Reading.of(thought, options, responses.letters[row], by="either")
    return any(mention.option == place for mention in reading.named(0, len(thought)))


@lru_cache(maxsize=64)
def _letter(letter: str) -> re.Pattern[str]:
    """Return a pattern of an option's letter on its own, not as a word such as the article "A"."""
    follows = r"| [a-zà-ÿ]|['’]" if letter in "AEIOY" else ""
    return re.compile(rf"(?<![^\W_\u0e00-\uffff]){re.escape(letter)}(?![^\W_\u0e00-\uffff]{follows})")


def _prefixes(text: str) -> set[str]:
    words = [word for word in words_of(text) if len(word) >= _PREFIX_LENGTH and word not in FUNCTION_WORDS]
    return {word[:_PREFIX_LENGTH] for word in words}


@lru_cache(maxsize=2048)
def plain_forms(*texts: str) -> frozenset[str]:
    """Return the plain forms of all words in the texts."""
    return frozenset(plain_form(word) for text in texts for word in words_of(text))


def _is_own(word: str, taken: frozenset[str]) -> bool:
    """Return whether a word may carry content of its own: neither a function word, nor generic, nor taken."""
    form = plain_form(word)
    return (
        len(word) > 1
        and word[0].isalpha()
        and word not in FUNCTION_WORDS
        and MANNERS.isdisjoint((word, form))
        and form not in taken
    )


@lru_cache(maxsize=2048)
def count_own_words(thought: str, question: str, options: tuple[str, ...]) -> float:
    """Return the number of distinct words in a thought with content beyond question and options."""
    taken = plain_forms(question) | plain_forms(*options)
    words = set(words_of(thought))
    characters = set(unspaced(words)) - UNSPACED_MANNERS - taken
    return len({plain_form(word) for word in words if _is_own(word, taken)}) + len(characters) / 2


def has_own_pairs(enough: int, thought: str, question: str, options: tuple[str, ...]) -> bool:
    """Return whether a thought has enough word pairs with content that the question does not contain."""
    taken = plain_forms(*options) - {""}  # the plain form of articles
    pairs = {tuple(map(plain_form, pair)) for pair in _pairs(question)}
    enough += len(pairs)
    for pair in _pairs(thought):
        if _is_own(pair[0], taken) or _is_own(pair[1], taken):
            forms = [plain_form(word) for word in pair]
            pairs.add(tuple("" if form in taken or form in _LETTERS else form for form in forms))
            if len(pairs) >= enough:
                return True
    return False


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield pairs of adjacent words within the sentences of a text."""
    for sentence in _STOPS.split(readable(text)):
        words = words_of(sentence)
        yield from pairwise(words)
