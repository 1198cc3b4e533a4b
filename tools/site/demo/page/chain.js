/**
 * The word-chain game: the next word begins with the last syllable of the word before. What is here
 * is in tools/word_chain, too.
 */

/**
 * Return the words of a question; they stand in its first line, after a colon.
 * @param {string} question
 * @returns {string[]}
 */
export function listedWords(question) {
  const [line] = question.split("\n");
  return line.slice(line.indexOf(":") + 1).trim().split(" ");
}

/**
 * Return the chain that begins with the word of the list that a sentence begins with.
 * @param {string[]} words
 * @param {string} sentence
 * @returns {string[]}
 */
export function followed(words, sentence) {
  const chain = [];
  let next = words.find((word) => sentence.startsWith(`${word}에서 `)); // "from" the word
  while (next !== undefined && !chain.includes(next)) {
    chain.push(next);
    const last = next.at(-1);
    next = words.find((word) => word[0] === last);
  }
  return chain;
}

/**
 * @param {string} word
 * @param {Record<string, string>} glosses
 * @returns {string}
 */
export function glossOf(word, glosses = {}) {
  return glosses[word] ?? "no word of the game";
}
