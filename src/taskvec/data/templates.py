"""How a pair of texts is written in a prompt."""

from dataclasses import dataclass

from taskvec.choices import TEMPLATES

INPUT, OUTPUT = "{input}", "{output}"
_EXPECTED = f"expected {' or '.join(TEMPLATES)}, or a text with {INPUT} once and {OUTPUT} once after it"


@dataclass(frozen=True)
class Template:
    """What stands before an input, between it and its output, at the start of every output, and between examples.

    ``start`` is a single space or nothing: tokenizers put the space before a word into the word's token, so the output
    of ``Q: {input}\\nA: {output}`` is " Paris", and the question ends with "A:".
    """

    before: str
    between: str
    start: str
    separator: str

    @classmethod
    def named(cls, name: str) -> "Template":
        """The preset of this name, or what a text with {input} and {output} describes.

        What follows {output} is the separator of examples. Where nothing does, it is an empty line after examples of
        several lines, and else the end of a line. No other braces mean anything. Raises ValueError, which says what is
        expected, for any other text.
        """
        text = TEMPLATES.get(name, name)
        for field in (INPUT, OUTPUT):
            if (count := text.count(field)) != 1:
                raise ValueError(f"the template {name!r} has {field} {count} times: {_EXPECTED}")
        before, rest = text.split(INPUT)
        if OUTPUT not in rest:
            raise ValueError(f"the template {name!r} has {OUTPUT} before {INPUT}: {_EXPECTED}")
        between, separator = rest.split(OUTPUT)
        if not between:
            raise ValueError(f"the template {name!r} has nothing between {INPUT} and {OUTPUT}: expected some text")
        start = " " if between.endswith(" ") else ""
        usual = "\n\n" if "\n" in before + between else "\n"
        return cls(before, between.removesuffix(" "), start, separator or usual)

    def input(self, text: str) -> str:
        """An input as a prompt has it, up to where its output begins."""
        return self.before + text + self.between

    def output(self, text: str) -> str:
        """An output as a prompt has it, without the separator that follows in an example."""
        return self.start + text

    @property
    def text(self) -> str:
        """The whole template as ``named`` takes it."""
        return f"{self.before}{INPUT}{self.between}{self.start}{OUTPUT}{self.separator}"


@dataclass(frozen=True)
class Wording:
    """How pairs of texts become a prompt: a template, as ``Template.named`` takes it, and how many pairs there are
    before the query."""

    template: str
    shots: int

    def input(self, text: str) -> str:
        """An input as a prompt ends with it."""
        return self._template.input(text)

    def answer(self, text: str) -> str:
        """Of what a model wrote behind an input, what comes before it would begin another example.

        That may be nothing. Where an example ends with a line, it is the rest of the line.
        """
        return text.lstrip(" ").split(self.end, maxsplit=1)[0].strip()

    @property
    def end(self) -> str:
        """What ends an answer: the separator, or the first end of a line where it begins with one."""
        return "\n" if self.separator.startswith("\n") else self.separator

    @property
    def separator(self) -> str:
        """What follows the output of an example."""
        return self._template.separator

    @property
    def _template(self) -> Template:
        return Template.named(self.template)
