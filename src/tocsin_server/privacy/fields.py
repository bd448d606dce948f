"""What a field may hold, by its name: the kinds of the privacy table."""

from __future__ import annotations

import re
from functools import lru_cache

# Kinds of a field, by its name. The first five are what the privacy table speaks of.
DROP, BODY, PERSON, PSEUDONYM, NETWORK = "drop", "body", "person", "pseudonym", "network"
AGENT, PATH, ERROR, IDENTIFIER, COUNT, TEXT = "agent", "path", "error", "identifier", "count", "text"
REDACTED = frozenset((DROP, BODY, PERSON, PSEUDONYM))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
#: Words at the end of a name that do not say what the value is.
_TRAILING = _words("url uri number no text string value data header info raw plain list dict json xml")
_PERSON_WORDS = _words(
    "user student teacher guardian parent pupil learner person child staff employee author owner member "
    "sender recipient principal actor"
)
_PERSON_IDS = _PERSON_WORDS | _words("sis session google")
_ID_WORDS = _words("id ids number no uuid code")
_NAME_WORDS = _PERSON_WORDS | _words(
    "first last middle full display given family real legal preferred maiden nick screen"
)
_KEY_WORDS = _words("api private access secret encryption signing ssh auth account")
#: Names as a whole, separators and capitals removed.
_WHOLE: dict[str, str] = {
    **dict.fromkeys(_words("tokens completiontokens prompttokens totaltokens"), COUNT),
    **dict.fromkeys(
        _words(
            "connectionstring databaseurl redisurl brokerurl cookiejar setcookie name dob ssn iep plan504 "
            "504plan zip zipcode postcode postalcode lat lng latitude longitude geolocation mealstatus "
            "lunchstatus freelunch reducedlunch socialsecurity creditcard cvv pin otp"
        ),
        DROP,
    ),
    **dict.fromkeys(_words("query querystring args kwargs params arguments"), BODY),
    **dict.fromkeys(
        _words(
            "sessionid sessid sid nameid samlnameid sourcedid googleid googleuserid sisid studentno "
            "username userlogin login uid sub deviceid cookieid advertisingid"
        ),
        PSEUDONYM,
    ),
    **dict.fromkeys(
        _words(
            "ip ipaddr ipaddress remoteip clientip remoteaddr remoteaddress clientaddr clientaddress "
            "clientnetwork peer peeraddress peername sourceip sourceaddress realip xrealip forwardedfor "
            "xforwardedfor forwarded cfconnectingip trueclientip"
        ),
        NETWORK,
    ),
    **dict.fromkeys(_words("ua useragent httpuseragent"), AGENT),
    **dict.fromkeys(
        _words(
            "path url uri requesturi requesturl requestpath originalurl fullpath referer referrer httpreferer"
        ),
        PATH,
    ),
}
#: The last word of a name, after the trailing words are cut: ``guardian_phone_number`` is a phone.
_LAST: dict[str, str] = {
    **dict.fromkeys(
        _words(
            "authorization cookie cookies token password passwd passphrase pwd secret secrets credential "
            "credentials settings dsn apikey email emails mail phone mobile telephone tel fax address "
            "street birthdate birthday birth photo avatar picture surname firstname lastname fullname "
            "displayname givenname familyname nickname grade grades gpa score scores mark marks feedback "
            "comment comments submission submissions answer answers essay discussion accommodation "
            "accommodations disability health medical diagnosis allergy allergies discipline ethnicity "
            "race gender"
        ),
        DROP,
    ),
    **dict.fromkeys(
        _words(
            "body payload prompt prompts completion completions messages context content contents input "
            "output parameters form formdata postdata"
        ),
        BODY,
    ),
    **dict.fromkeys(_PERSON_WORDS - {"principal"}, PERSON),
    **dict.fromkeys(
        _words(
            "error exception exc traceback backtrace stack stacktrace sql statement reason detail details"
        ),
        ERROR,
    ),
    **dict.fromkeys(
        _words("id uuid guid sha hash digest version fingerprint revision commit at time timestamp nano ts"),
        IDENTIFIER,
    ),
}


@lru_cache(maxsize=8192)
def key_kind(key: str) -> str:
    """What the privacy table says of a field with this name; capitals and separators do not matter.

    The whole name decides, else its last word (``guardian_phone``, ``client_secret``); ``…_name`` of a
    person is dropped, an id or number of a person (``student_number``) is a pseudonym, any other id is an
    identifier.
    """
    words = [word.lower() for word in _WORD.findall(key[:200])]
    known = _WHOLE.get("".join(words))
    if known or not words:
        return known or TEXT
    of_person = words[-1] in _ID_WORDS and not _PERSON_IDS.isdisjoint(words[:-1])
    while len(words) > 1 and words[-1] in _TRAILING:
        words.pop()
    kind = _WHOLE.get("".join(words)) or _kind_of_words(words)
    return PSEUDONYM if of_person and kind != DROP else kind


def _kind_of_words(words: list[str]) -> str:
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in ("name", "names"):
        return DROP if before in _NAME_WORDS else TEXT
    if last in ("key", "keys"):
        return DROP if before in _KEY_WORDS else TEXT
    if last == "tokens":
        return COUNT
    if last == "date" and before == "birth":
        return DROP
    if last == "message" and before in ("error", "exception", "log"):
        return ERROR
    return _LAST.get(last, TEXT)
