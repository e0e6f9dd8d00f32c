"""Entries of the parameter files as frozen models, whose fields say in plain words what they expect.

A value is taken as it stands: a text is no number, and neither is true or false. What is wrong is said in one sentence
that follows the path of the entry; :func:`sentences` puts the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic.annotated_handlers import GetCoreSchemaHandler
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_REFUSED = "refused"
#: What pydantic itself finds wrong with a value, in words.
_WORDS = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "mapping_type": "keys and values",
    "dict_type": "keys and values",
    "invalid_key": "a text as key",
    "list_type": "a list",
    "tuple_type": "a list",
}


class _Nothing:
    """Stands for the value of a required key that an entry lacks."""

    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


def refusal(sentence: str) -> PydanticCustomError:
    """Make the error of a validator.

    Args:
        sentence: What is wrong and what to do, without the path of the entry.
    """
    return PydanticCustomError(_REFUSED, "{sentence}", {"sentence": sentence})


def sentences(where: str, error: ValidationError) -> list[str]:
    """Say of everything that is wrong with an entry where it stands and what was expected.

    Args:
        where: Path of the entry, e.g. ``detectors.padim``; may be empty.
        error: What its model found.

    Returns:
        A sentence for each finding; positions in lists are left out, since the value is quoted.
    """
    found = []
    for each in error.errors(include_url=False):
        keys = [str(part) for part in each["loc"] if isinstance(part, str) and part != "[key]"]
        expected = f"expected {_WORDS.get(each['type'], 'another value')}, found {each['input']!r}."
        found.append(f"{'.'.join([where, *keys] if where else keys)}: {each.get('ctx', {}).get('sentence', expected)}")
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Expected:
    """Says in words what a value has to be, whatever is wrong with it; the last annotation of a type.

    Attributes:
        words: What is expected, e.g. ``a whole number of at least 1``.
        sentence: What is said of another value, with ``{words}`` and ``{found}``.
    """

    words: str
    sentence: str = "expected {words}, found {found}."

    def allows(self, value: Any) -> bool:
        """Say whether a value of the right type is one of those that are expected."""
        return True

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: Any, inner: core_schema.ValidatorFunctionWrapHandler) -> Any:
            with suppress(ValidationError):
                made = inner(value)
                if self.allows(made):
                    return made
            sentence = Expected.sentence if value is _NOTHING else self.sentence
            raise refusal(sentence.format(words=self.words, found=repr(value)))

        return core_schema.no_info_wrap_validator_function(check, handler(source))


@dataclass(frozen=True)
class Known:
    """Checks some keys of keys and values of which the others are not known here.

    Attributes:
        keys: A TypedDict of those that are checked.
    """

    keys: type

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(self.keys)


class OneOf(Expected):
    """Says of a value that it is none of the known ones."""

    def __init__(self, *known: str) -> None:
        names = ", ".join(sorted(known))
        super().__init__(f"one of {names}", f"{{found}} is none of {names}.")
        self.known = known

    def allows(self, value: Any) -> bool:
        return value in self.known


def _any_number(value: Any) -> Any:
    """Give a list; --params has none, since Kedro splits at commas, so one text or number counts as one entry."""
    if isinstance(value, str | int | float):
        return (value,)
    if isinstance(value, list | tuple | None):
        return tuple(value or ())
    raise refusal(f"expected a list, found {value!r}.")


def _at_least_one(value: Any) -> Any:
    if isinstance(value, str | int | float | list | tuple) and value not in ([], ()):
        return _any_number(value)
    raise refusal(f"expected a list with at least one entry, found {value!r}.")


#: For a list that may be empty or null; one entry alone counts as a list.
AnyNumber = BeforeValidator(_any_number)
#: For a list with at least one entry.
AtLeastOne = BeforeValidator(_at_least_one)
#: For a list that cannot be said as one entry alone.
Listed = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
#: For keys and values that may be null.
OrNone = BeforeValidator(lambda value: {} if value is None else value)

Number = Annotated[int | float, Expected("a number")]
WholeNumber = Annotated[int, Field(ge=1), Expected("a whole number of at least 1")]
Seed = Annotated[int, Field(ge=0), Expected("a whole number of at least 0")]
Percentage = Annotated[
    int | float,
    Field(gt=0, lt=100),
    Expected("a percentage between 0 and 100", "{found} is not a percentage between 0 and 100."),
]
Text = Annotated[str, Expected("a text")]
#: A name, which YAML may have read as a number.
Name = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value)]
Folder = Annotated[str, Expected("the path of a folder")]
Names = Annotated[tuple[Name, ...], AtLeastOne]
#: Keys and values of which nothing is known here; null for none.
Keys = Annotated[Mapping[str, Any], OrNone, Expected("keys and values")]


class Settings(BaseModel):
    """An entry of a parameter file: frozen, and without keys that nobody reads.

    A misspelt key would leave a setting as it was, without a word; so it is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    #: What an entry of this kind is, where something else stands in its place.
    expected: ClassVar[str] = "keys and values"

    _given: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(values, cls):
            return values
        if not isinstance(values, Mapping):
            raise refusal(f"expected {cls.expected}, found {values!r}.")
        fields = cls.model_fields
        if unknown := sorted(str(key) for key in values if key not in fields):
            raise refusal(f"unknown key {', '.join(unknown)}. Known keys: {', '.join(sorted(fields))}.")
        lacking = {name: _NOTHING for name, field in fields.items() if field.is_required() and name not in values}
        made = handler({**lacking, **values})
        made._given = values
        return made

    @property
    def given(self) -> Mapping[str, Any]:
        """The entry as it stands in the parameter files, of which the names of results are made."""
        return self._given
