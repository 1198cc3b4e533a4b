/**
 * Questions: what a visitor typed or picked, as the model is asked it.
 */

/**
 * @typedef {Object} Pick A question to pick.
 * @property {string} id
 * @property {string} group
 * @property {string} sentence With its {A/B}.
 * @property {string} right The gold sentence.
 * @property {string} gloss In English.
 * @property {string} question
 * @property {number} head
 *
 * @typedef {{before: string, after: string, head: number}} Around
 *
 * @typedef {Object} Asking
 * @property {string[]} heads Instruction and worked example, as the prompts begin.
 * @property {string} tail
 * @property {Record<string, Around>} typed By type of question.
 * @property {Pick[]} picks
 * @property {number} max_new_tokens
 *
 * @typedef {Object} Question
 * @property {string} type SELECTION or CORRECTION.
 * @property {string} sentence
 * @property {string[]} sentences The sentence with each option in the place of the brace.
 * @property {string[]} options
 * @property {string} prompt
 */

export const SELECTION = "선택형"; // "choose"
export const CORRECTION = "교정형"; // "correct"

const BRACE = /\{([^{}/]+)\/([^{}/]+)\}/g;

/** What a visitor can mend, in one line. */
export class TypingError extends Error {}

/**
 * Return the question that a visitor has picked.
 * @param {Pick} pick
 * @param {Asking} asking
 * @returns {Question}
 */
export function pickedQuestion(pick, asking) {
  const prompt = asking.heads[pick.head] + pick.question + asking.tail;
  return { type: SELECTION, ...choice(pick.sentence), prompt };
}

/**
 * Return the question about a sentence that a visitor has typed: to choose an option of its brace,
 * or, where it has none, to correct it.
 * @param {string} typed
 * @param {Asking} asking
 * @returns {Question}
 */
export function typedQuestion(typed, asking) {
  const sentence = typed.normalize("NFC").replace(/\s+/g, " ").trim();
  if (!sentence) throw new TypingError("Type a sentence first.");

  const hasBrace = /[{}]/.test(sentence);
  const type = hasBrace ? SELECTION : CORRECTION;
  const { before, after, head } = asking.typed[type];
  const prompt = asking.heads[head] + before + sentence + after + asking.tail;
  if (hasBrace) return { type, ...choice(sentence), prompt };
  return { type, sentence, sentences: [], options: [], prompt };
}

/**
 * Return the two options of a sentence, and the sentences that they make.
 * @param {string} sentence
 * @returns {{sentence: string, sentences: string[], options: string[]}}
 */
export function choice(sentence) {
  const braces = [...sentence.matchAll(BRACE)];
  if (braces.length !== 1 || sentence.replace(BRACE, "").match(/[{}]/)) {
    throw new TypingError("Write exactly one choice of two spellings, such as {며칠/몇일}.");
  }

  const [brace] = braces;
  const options = [brace[1].trim(), brace[2].trim()];
  if (options[0] === options[1]) throw new TypingError("The two spellings are the same.");
  if (options.includes("")) throw new TypingError("One of the two spellings is empty.");

  const sentences = options.map((option) => sentence.replace(brace[0], () => option));
  return { sentence, sentences, options };
}
