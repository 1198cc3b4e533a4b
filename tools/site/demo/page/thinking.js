/**
 * The page of the model that can think: how probable a thought is, and what is answered with one and
 * without one.
 */

import { consideredBy } from "./answering.js";
import { followed, glossOf, listedWords } from "./chain.js";
import { Page, barOf, element, korean, node, open, rounded } from "./page.js";
import { exactMatch, splitThought } from "./reward.js";

/** @typedef {import("./answering.js").Considered} Considered */
/** @typedef {import("./asking.js").Pick} Pick */
/** @typedef {import("./asking.js").Question} Question */
/** @typedef {import("./model.js").Checkpoint} Checkpoint */

class ThinkingPage extends Page {
  /** @param {Question} question */
  showQuestion(question) {
    super.showQuestion(question);
    element("words").replaceChildren(...this.glossed(this.words(), " "));
  }

  /** The words of the question. */
  words() {
    return listedWords(/** @type {Pick} */ (this.pick).question);
  }

  /**
   * @param {Checkpoint} checkpoint
   * @param {Question} question
   * @returns {Promise<Considered>}
   */
  saidBy(checkpoint, question) {
    return consideredBy(checkpoint, question, this.model);
  }

  /**
   * @param {Question} question
   * @param {Considered} said
   * @returns {HTMLElement[]}
   */
  shown(question, said) {
    const odds = node("div", "demo-odds");
    const { temperature } = this.model.data;
    const words = `P(it thinks first) = ${rounded(said.thinks)} at temperature ${temperature}`;
    const share = node("span", "is-a", words);
    share.dataset.probability = String(said.thinks);
    odds.append(share);

    const thought = node("div", "demo-thought");
    thought.append(node("b", "", "If it thinks: "), ...this.thoughtInWords(question, said.thinking));
    const thinking = this.answered("then it answers", question, said.thinking, said.greedy);
    const atOnce = this.answered("If it answers at once", question, said.atOnce, said.greedy);
    return [odds, barOf([said.thinks]), thought, thinking, atOnce];
  }

  /**
   * @param {Question} question
   * @param {string} answer
   * @returns {(HTMLElement | string)[]}
   */
  thoughtInWords(question, answer) {
    const words = splitThought(answer).thought.split(/\s+/).filter(Boolean);
    const chain = followed(this.words(), question.sentence);
    const isTrue = words.join(" ") === chain.join(" ");
    return [...this.glossed(words, " → "), isTrue ? " (the true chain)" : " (not the true chain)"];
  }

  /**
   * @param {string} when
   * @param {Question} question
   * @param {string} answer
   * @param {string} greedy
   * @returns {HTMLElement}
   */
  answered(when, question, answer, greedy) {
    const line = node("div", "demo-way");
    line.append(node("b", "", `${when}${answer === greedy ? ", its greedy answer" : ""}: `));
    line.append(korean("span", "demo-answer", splitThought(answer).answer || "(nothing)"));

    const isRight = exactMatch(answer, this.right(question)) === 1;
    const verdict = `${this.taken(question, answer)}: ${isRight ? "right" : "wrong"}.`;
    const words = `${verdict} ${this.rewardInWords(question, answer)}`;
    line.append(" ", node("span", "demo-reward", words));
    return line;
  }

  /**
   * Return in English which of the two words an answer takes.
   * @param {Question} question
   * @param {string} answer
   * @returns {string}
   */
  taken(question, answer) {
    const place = question.sentences.findIndex((sentence) => exactMatch(answer, sentence) === 1);
    if (place < 0) return "Neither word";
    return `“${glossOf(question.options[place], this.model.data.glosses)}”`;
  }

  /**
   * Return words with their glosses.
   * @param {string[]} words
   * @param {string} between
   * @returns {(HTMLElement | string)[]}
   */
  glossed(words, between) {
    return words.flatMap((word, place) => {
      const both = korean("ruby", "", word);
      const gloss = node("rt", "", glossOf(word, this.model.data.glosses));
      gloss.lang = "en";
      both.append(gloss);
      return place ? [between, both] : [both];
    });
  }
}

await open(ThinkingPage, "thinking/");
