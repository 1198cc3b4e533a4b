/**
 * What a checkpoint says: its greedy answer, and how probable each of two sentences is; or, where it
 * may think first, how probable that is, and what it answers in either case.
 *
 * Probabilities of sentences are those of tools/experiments/form_probability.py: given the prompt
 * and the answer up to where the two sentences part, P of an option is the product of the
 * probabilities of its tokens from there on.
 */

/** @typedef {import("./model.js").Reading} Reading */
/** @typedef {import("./tokenizer.js").Tokenizer} Tokenizer */

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./model.js").Checkpoint} Checkpoint */
/** @typedef {import("./asking.js").Question} Question */

/** @typedef {{common: number[], first: number[], second: number[]}} Parting */

/**
 * What a checkpoint says to a question; no probabilities where the question offers no choice.
 * @typedef {{answer: string, probabilities: number[]}} Said
 */

/**
 * What a checkpoint that may think says: how probable it is that a sampled answer begins with a
 * thought; the greedy answer; the greedy answer that begins with a thought, and the one that does not.
 * @typedef {{thinks: number, greedy: string, thinking: string, atOnce: string}} Considered
 */

/** What an answer begins with, as in tools/experiments/begun_answers.py. */
const THOUGHT = "<think>";
const QUOTE = '"';

/**
 * @param {Checkpoint} checkpoint
 * @param {Question} question
 * @param {Model} model
 * @returns {Promise<Said>}
 */
export async function saidBy(checkpoint, question, { tokenizer, data }) {
  const prompt = await checkpoint.read(tokenizer.encode(question.prompt));
  const answer = await greedyAnswer(prompt, tokenizer, data.asking.max_new_tokens);
  const { sentences } = question;
  if (!sentences.length) return { answer, probabilities: [] };
  return { answer, probabilities: await sentenceProbabilities(prompt, tokenizer, sentences) };
}

/**
 * @param {Checkpoint} checkpoint
 * @param {Question} question
 * @param {Model} model
 * @returns {Promise<Considered>}
 */
export async function consideredBy(checkpoint, question, { tokenizer, data }) {
  const prompt = await checkpoint.read(tokenizer.encode(question.prompt));
  const [opening] = tokenizer.encode(THOUGHT);
  const thinks = Math.exp(logProbability(prompt.after(), opening, data.temperature));
  const greedy = await greedyAnswer(prompt, tokenizer, data.asking.max_new_tokens);

  /** @param {string} start */
  const begunWith = async (start) => {
    if (greedy.startsWith(start)) return greedy;
    const begun = await prompt.read(tokenizer.encode(start));
    return start + (await greedyAnswer(begun, tokenizer, data.asking.max_new_tokens));
  };
  return { thinks, greedy, thinking: await begunWith(THOUGHT), atOnce: await begunWith(QUOTE) };
}

/**
 * Return the answer whose every token is the most probable one.
 * @param {Reading} prompt The prompt, read.
 * @param {Tokenizer} tokenizer
 * @param {number} maxNewTokens
 * @returns {Promise<string>}
 */
export async function greedyAnswer(prompt, tokenizer, maxNewTokens) {
  const written = [];
  let reading = prompt;

  for (;;) {
    const token = placeOfLargest(reading.after());
    if (token === tokenizer.end) break;
    written.push(token);
    if (written.length === maxNewTokens) break;
    reading = await reading.read([token]);
  }
  return tokenizer.decode(written);
}

/**
 * Return the probability of each of two sentences, where they part.
 * @param {Reading} prompt The prompt, read.
 * @param {Tokenizer} tokenizer
 * @param {string[]} sentences
 * @returns {Promise<number[]>}
 */
export async function sentenceProbabilities(prompt, tokenizer, sentences) {
  const [one, other] = sentences.map((sentence) => tokenizer.encode(`"${sentence}"`));
  const { common, first, second } = part(one, other);

  const start = common.length ? await prompt.read(common) : prompt;
  return [await probability(start, first), await probability(start, second)];
}

/**
 * Return the probability of some tokens after what has been read.
 * @param {Reading} start
 * @param {number[]} tokens
 * @returns {Promise<number>}
 */
async function probability(start, tokens) {
  const [first, ...later] = tokens;
  let log = logProbability(start.after(), first);
  if (!later.length) return Math.exp(log);

  const rest = await start.read(tokens.slice(0, -1));
  later.forEach((token, place) => {
    log += logProbability(rest.after(place), token);
  });
  return Math.exp(log);
}

/**
 * Return where two texts part, and their tokens through the last that differs; neither is empty.
 * @param {number[]} one
 * @param {number[]} other
 * @returns {Parting}
 */
export function part(one, other) {
  const start = commonStart(one, other);
  const first = one.slice(start);
  const second = other.slice(start);

  const commonEnd = commonStart([...first].reverse(), [...second].reverse());
  const tail = Math.min(commonEnd, Math.min(first.length, second.length) - 1);
  return {
    common: one.slice(0, start),
    first: first.slice(0, first.length - tail),
    second: second.slice(0, second.length - tail),
  };
}

/**
 * @param {number[]} one
 * @param {number[]} other
 * @returns {number}
 */
function commonStart(one, other) {
  let length = 0;
  while (length < one.length && length < other.length && one[length] === other[length]) length++;
  return length;
}

/**
 * @param {Float32Array} logits
 * @returns {number}
 */
function placeOfLargest(logits) {
  let best = 0;
  for (let place = 1; place < logits.length; place++) {
    if (logits[place] > logits[best]) best = place;
  }
  return best;
}

/**
 * @param {Float32Array} logits
 * @param {number} token
 * @param {number} temperature
 * @returns {number}
 */
function logProbability(logits, token, temperature = 1) {
  const largest = logits[placeOfLargest(logits)];
  let sum = 0;
  for (const logit of logits) sum += Math.exp((logit - largest) / temperature);
  return (logits[token] - largest) / temperature - Math.log(sum);
}
