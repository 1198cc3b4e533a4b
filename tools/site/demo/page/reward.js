/**
 * Two of the rewards, as grpo_helpers/metrics.py and grpo_helpers/answers.py define them: the format
 * of an answer, and whether the sentence that it calls right is the right one.
 *
 * What is left out needs more than the page has: ROUGE-1 a Korean tagger, BERTScore an encoder, and
 * both a reason to compare with.
 */

import { CORRECTION } from "./asking.js";

/** @typedef {{sentences: string[], reason: string, head: string}} Answer */
/** @typedef {{type: string, sentence: string}} Asked */

const THOUGHT_TAG = /<(\/?)(?:think|thinking|thought|reasoning)>/gi;
const PREFIX = /^\s*(?:\[?\s*(?:답변|정답|답)\s*\]?\s*[:：])\s*/; // "answer:"
const QUOTED_HEAD = /["']\s*(?:으?[이가])\s*옳다/g; // "is right"
const OTHER_HEAD =
  /["']\s*(?:으로|로|[와과]\s*같이)\s*(?:(?:고쳐|바꿔|바꾸어)\s*)?(?:쓴다|써야\s*한다|적는다|적어야\s*한다|고친다|고쳐야\s*한다|바꾼다)/g;
const SECOND_HEAD = /"\s*(?:으?[이가]\s*옳다|으?로\s*고쳐)/;
const ALTERNATIVE = /(["'])\s*(?:혹은|또는|[와과]\s*같이\s*쓰거나|이나|나|,)\s*\1/g;
const OUTER_QUOTE = /^["']|["']$/g;
const HANGUL = /[가-힣]/;
const WORD_CHARACTER = /[\p{L}\p{N}]/u;
const ANY_CHARACTER = /\S/;

/**
 * Return what a text answers, without what it thinks, and whether a thought stands where it may.
 * @param {string} text
 * @returns {{answer: string, thought: string, isFaulty: boolean}}
 */
export function splitThought(text) {
  const tags = [...text.matchAll(THOUGHT_TAG)];
  if (!tags.length) return { answer: text, thought: "", isFaulty: false };

  const thoughts = [];
  const outside = [];
  let isFaulty = false;
  let isInside = false;
  let start = 0;

  for (const tag of tags) {
    const isOpening = tag[1] === "";
    if (isOpening && isInside) {
      isFaulty = true;
      continue;
    }
    const piece = text.slice(start, tag.index).trim();
    start = tag.index + tag[0].length;
    if (!isOpening) thoughts.push(piece);
    else if (piece) {
      outside.push(piece);
      isFaulty = true;
    }
    isInside = isOpening;
  }

  const rest = text.slice(start).trim();
  if (isInside) thoughts.push(rest);
  else if (rest) outside.push(rest);
  isFaulty = isFaulty || isInside || thoughts.length > 1;
  return { answer: outside.join("\n"), thought: thoughts.filter(Boolean).join("\n\n"), isFaulty };
}

/**
 * Return a text with straight quotes, and with every run of white space as one space.
 * @param {string} text
 * @returns {string}
 */
function normalizeQuotes(text) {
  const straight = text.replace(/[“”„‟＂]/g, '"').replace(/[‘’‚＇]/g, "'");
  return straight.replace(/\s+/g, " ").trim();
}

/**
 * Return the parts of an answer: the sentences it calls right, its reason, and its kind of head.
 * @param {string} text
 * @returns {Answer}
 */
export function parse(text) {
  const answer = normalizeQuotes(splitThought(text).answer);
  const plain = normalizeQuotes(answer.replace(PREFIX, ""));
  const quoted = findHead(QUOTED_HEAD, plain);
  const other = findHead(OTHER_HEAD, plain);

  const isOther = other && (!quoted || endsTheAnswer(other, plain, quoted));
  const head = isOther ? other : quoted;
  if (!head) return { sentences: [], reason: "", head: "none" };

  const sentences = alternatives(plain.slice(0, head.index + 1));
  const reason = plain.slice(head.index + head[0].length).replace(/^[ .,]+/, "").trimEnd();
  return { sentences, reason, head: isOther ? "other" : "quoted" };
}

/**
 * Return the head at the first closing quote of the kind that opens the text, or else the first.
 * @param {RegExp} pattern
 * @param {string} text
 * @returns {RegExpExecArray | undefined}
 */
function findHead(pattern, text) {
  const found = [...text.matchAll(pattern)];
  return found.find((match) => match[0][0] === text[0]) ?? found[0];
}

/**
 * @param {RegExpExecArray} other
 * @param {string} text
 * @param {RegExpExecArray} before
 * @returns {boolean}
 */
function endsTheAnswer(other, text, before) {
  const end = other.index + other[0].length;
  const closesFirstQuote = other[0][0] === text[0];
  return closesFirstQuote && text.startsWith(".", end) && end <= before.index;
}

/**
 * Return the different sentences of "a" 또는 "b" ("a" or "b"), without outer quotes.
 * @param {string} quoted
 * @returns {string[]}
 */
function alternatives(quoted) {
  const parts = [];
  let start = 0;
  for (const match of quoted.matchAll(ALTERNATIVE)) {
    if (match[1] !== quoted.at(-1)) continue;
    parts.push(quoted.slice(start, match.index + 1));
    start = match.index + match[0].length - 1;
  }
  parts.push(quoted.slice(start));
  return [...new Set(parts.map((part) => part.trim().replace(OUTER_QUOTE, "").trim()))];
}

/**
 * Return 1 if every sentence that an answer calls right is the right one, else 0.
 * @param {string} text
 * @param {string} right The right sentence.
 * @returns {number}
 */
export function exactMatch(text, right) {
  const gold = parse(`"${right}"가 옳다.`).sentences;
  const { sentences } = parse(text);
  return Number(sentences.length > 0 && sentences.every((sentence) => gold.includes(sentence)));
}

/**
 * Return 1 for an answer in the form "sentence"가 옳다. reason, else 0.
 * @param {string} text
 * @param {Asked} asked
 * @param {string} right The right sentence; empty where nobody knows it.
 * @returns {number}
 */
export function formatScore(text, asked, right = "") {
  const { answer, isFaulty } = splitThought(text);
  if (isFaulty) return 0;

  const straight = normalizeQuotes(answer);
  const parsed = parse(answer);
  const isAccepted = parsed.head === "quoted" || (parsed.head === "other" && asked.type === CORRECTION);
  const oneHead = isAccepted && !SECOND_HEAD.test(parsed.reason);
  const oneLine = !answer.trim().includes("\n");
  const script = scriptOf(right);

  const wellFormed =
    straight.startsWith('"') &&
    oneHead &&
    oneLine &&
    HANGUL.test(parsed.reason) &&
    parsed.sentences.every((sentence) => script.test(sentence));
  return Number(wellFormed && !keepsBraces(straight, asked, right));
}

/**
 * Return what a sentence must have some of: Hangul, or else letters or digits, as the right one has.
 * @param {string} right
 * @returns {RegExp}
 */
function scriptOf(right) {
  if (!right || HANGUL.test(right)) return HANGUL;
  return WORD_CHARACTER.test(right) ? WORD_CHARACTER : ANY_CHARACTER;
}

/**
 * Return whether an answer has a brace: the choice is to be gone, and no other belongs to a sentence
 * that the page asks about, unless the right one has it.
 * @param {string} straight
 * @param {Asked} asked
 * @param {string} right
 * @returns {boolean}
 */
function keepsBraces(straight, asked, right) {
  const spaceless = (/** @type {string} */ each) => each.replace(/\s+/g, "");
  const answer = spaceless(straight);
  for (const [brace] of normalizeQuotes(asked.sentence).matchAll(/\{[^{}]*\/[^{}]*\}/g)) {
    if (asked.type !== CORRECTION && answer.includes(spaceless(brace))) return true;
  }
  return /[{}]/.test(answer) && !/[{}]/.test(right);
}
