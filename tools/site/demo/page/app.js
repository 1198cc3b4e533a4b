/**
 * The page of the embedded model: it asks every checkpoint what a visitor has picked or typed, and
 * shows what they say.
 */

import { saidBy } from "./answering.js";
import { typedQuestion } from "./asking.js";
import { Page, barOf, element, korean, node, open, rounded } from "./page.js";
import { splitThought } from "./reward.js";

/** @typedef {import("./asking.js").Question} Question */
/** @typedef {import("./model.js").Checkpoint} Checkpoint */
/** @typedef {import("./answering.js").Said} Said */

class NormsPage extends Page {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    super(model);
    /** @type {(() => void)[]} Redraw what each checkpoint would be paid. */
    this.redraws = [];
  }

  start() {
    element("sentence").addEventListener("input", () => {
      this.pick = undefined;
    });
    document.getElementById("demo")?.addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask();
    });
    element("right").addEventListener("change", () => this.redraws.forEach((redraw) => redraw()));
    for (const name of ["sentence", "ask"]) element(name).disabled = false;
    return super.start();
  }

  /** @param {string} id */
  takePick(id) {
    const asked = super.takePick(id);
    element("sentence").value = this.pick?.sentence ?? "";
    return asked;
  }

  ask() {
    this.redraws = [];
    return super.ask();
  }

  /** @returns {Question} */
  question() {
    if (this.pick) return super.question();
    return typedQuestion(element("sentence").value, this.model.data.asking);
  }

  /**
   * @param {Question} question
   * @returns {string}
   */
  right(question) {
    if (this.pick || !question.sentences.length) return super.right(question);
    return question.sentences[Number(element("right").querySelector("input:checked").value)];
  }

  /** @param {Question} question */
  showQuestion(question) {
    super.showQuestion(question);
    const mustSay = !this.pick && question.options.length > 0;
    element("right").hidden = !mustSay;
    /** @type {HTMLElement[]} */
    const labels = [...element("right").querySelectorAll("span")];
    labels.forEach((label, place) => {
      label.textContent = question.options[place] ?? "";
    });
  }

  /**
   * @param {Checkpoint} checkpoint
   * @param {Question} question
   * @returns {Promise<Said>}
   */
  saidBy(checkpoint, question) {
    return saidBy(checkpoint, question, this.model);
  }

  /**
   * @param {Question} question
   * @param {Said} said
   * @returns {HTMLElement[]}
   */
  shown(question, said) {
    const reward = node("div", "demo-reward");
    const redraw = () => {
      reward.textContent = this.rewardInWords(question, said.answer);
    };
    redraw();
    this.redraws.push(redraw);
    const answer = korean("div", "demo-answer", said.answer || "(nothing)");
    return [...oddsOf(question, said.probabilities), answer, reward];
  }

  /**
   * @param {Question} question
   * @param {string} answer
   * @returns {string}
   */
  rewardInWords(question, answer) {
    const { thought } = splitThought(answer);
    const thinks = thought ? `It thinks: ${thought} ` : "";
    return thinks + super.rewardInWords(question, answer);
  }

  /**
   * @param {Question} question
   * @returns {string}
   */
  remark(question) {
    const unknown = this.model.tokenizer.unknownCharacters(question.sentence);
    if (!unknown.length) return "";
    return `The model has never seen ${unknown.join(" ")}: it reads a mark for "unknown" there.`;
  }
}

/**
 * Return the probabilities of the options in words, and as a bar.
 * @param {Question} question
 * @param {number[]} probabilities
 * @returns {HTMLElement[]}
 */
function oddsOf(question, probabilities) {
  if (!probabilities.length) return [];
  const words = node("div", "demo-odds");
  probabilities.forEach((probability, place) => {
    const kind = place === 0 ? "is-a" : "is-b";
    const word = node("span", kind, `P(${"AB"[place]}) = ${rounded(probability)} `);
    word.dataset.probability = String(probability);
    word.append(korean("span", "", question.options[place]));
    words.append(word);
  });
  return [words, barOf(probabilities)];
}

await open(NormsPage);
