/**
 * A tokenizer whose tokens are characters, beside a few longer ones such as <|end|> and <think>.
 */

/** @typedef {{tokens: string[], special: number[], unknown: number, end: number}} Vocabulary */

export class Tokenizer {
  /** @param {Vocabulary} vocabulary */
  constructor(vocabulary) {
    this.tokens = vocabulary.tokens;
    this.unknown = vocabulary.unknown;
    this.end = vocabulary.end;
    this.special = new Set(vocabulary.special);
    this.numbers = new Map(vocabulary.tokens.map((token, number) => [token, number]));

    const longer = this.tokens.filter((token) => [...token].length > 1);
    this.pieces = new RegExp(`${longer.map(escaped).join("|")}|[^]`, "gu");
  }

  /**
   * @param {string} text
   * @returns {number[]}
   */
  encode(text) {
    const pieces = text.match(this.pieces) ?? [];
    return pieces.map((piece) => this.numbers.get(piece) ?? this.unknown);
  }

  /**
   * Return a text without special tokens.
   * @param {number[]} numbers
   * @returns {string}
   */
  decode(numbers) {
    const written = numbers.filter((number) => !this.special.has(number));
    return written.map((number) => this.tokens[number]).join("");
  }

  /**
   * Return the characters of a text that the model has never seen, each once.
   * @param {string} text
   * @returns {string[]}
   */
  unknownCharacters(text) {
    return [...new Set(text)].filter((character) => !this.numbers.has(character));
  }
}

/**
 * Return a text as a regular expression that finds it.
 * @param {string} text
 * @returns {string}
 */
function escaped(text) {
  return text.replace(/[|<>\\/^$*+?.()[\]{}-]/g, (sign) => (/[<>-]/.test(sign) ? sign : `\\${sign}`));
}
