/**
 * The page: it asks every checkpoint what a visitor has picked or typed, and shows what they say.
 */

import { saidBy } from "./answering.js";
import { TypingError, pickedQuestion, typedQuestion } from "./asking.js";
import { Model } from "./model.js";
import { exactMatch, formatScore, splitThought } from "./reward.js";

/** @typedef {import("./asking.js").Question} Question */
/** @typedef {import("./asking.js").Pick} Pick */
/** @typedef {import("./model.js").Checkpoint} Checkpoint */
/** @typedef {import("./answering.js").Said} Said */

/** What the rewards that the page knows are called. @type {Record<string, string>} */
const PAID = { format: "format", em: "exact match" };

/**
 * @param {string} name
 * @returns {any}
 */
const element = (name) => document.getElementById(`demo-${name}`);

/** The controls of the page, and what it is busy with. */
class Page {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    /** @type {Map<string, Promise<Checkpoint>>} */
    this.checkpoints = new Map();
    this.asked = 0; // how often something was asked: an older question gives way
    /** @type {Pick | undefined} */
    this.pick = undefined;
    /** @type {(() => void)[]} Redraw what each checkpoint would be paid. */
    this.redraws = [];
  }

  /** Fill the controls, and let them work. */
  start() {
    fillPicks(element("pick"), this.model.data.asking.picks);
    element("pick").addEventListener("change", () => this.takePick(element("pick").value));
    element("another").addEventListener("click", () => this.takePick(this.anotherPick()));
    element("sentence").addEventListener("input", () => {
      this.pick = undefined;
    });
    document.getElementById("demo")?.addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask();
    });
    element("right").addEventListener("change", () => this.redraws.forEach((redraw) => redraw()));
    for (const name of ["pick", "another", "sentence", "ask"]) element(name).disabled = false;
    return this.takePick(element("pick").value);
  }

  /** @returns {string} */
  anotherPick() {
    const { picks } = this.model.data.asking;
    return picks[Math.floor(Math.random() * picks.length)].id;
  }

  /**
   * Ask the question with an id.
   * @param {string} id
   */
  takePick(id) {
    this.pick = this.model.data.asking.picks.find((pick) => pick.id === id);
    element("pick").value = id;
    element("sentence").value = this.pick?.sentence ?? "";
    return this.ask();
  }

  /** Ask what stands in the field, of one checkpoint after the other. */
  async ask() {
    const number = ++this.asked;
    this.redraws = [];
    element("results").replaceChildren();
    try {
      const question = this.question();
      this.showQuestion(question);
      for (const name of this.model.names) {
        say(`${titleOf(name)} answers …`);
        const said = await this.answerOf(name, question);
        if (number !== this.asked) return;
        this.showAnswer(name, question, said);
      }
      say(this.remark(question));
    } catch (error) {
      const words = error instanceof Error ? error.message : String(error);
      say(error instanceof TypingError ? words : `The model cannot answer: ${words}`, true);
    }
  }

  /** @returns {Question} */
  question() {
    const { asking } = this.model.data;
    if (this.pick) return pickedQuestion(this.pick, asking);
    return typedQuestion(element("sentence").value, asking);
  }

  /**
   * @param {string} name
   * @param {Question} question
   * @returns {Promise<Said>}
   */
  async answerOf(name, question) {
    await new Promise((resolve) => setTimeout(resolve)); // let the page draw
    if (!this.checkpoints.has(name)) this.checkpoints.set(name, this.model.checkpoint(name));
    const checkpoint = await /** @type {Promise<Checkpoint>} */ (this.checkpoints.get(name));
    return saidBy(checkpoint, question, this.model);
  }

  /**
   * Return the sentence that is paid; empty where nobody knows it.
   * @param {Question} question
   * @returns {string}
   */
  right(question) {
    if (this.pick) return this.pick.right;
    if (!question.sentences.length) return "";
    return question.sentences[Number(element("right").querySelector("input:checked").value)];
  }

  /** @param {Question} question */
  showQuestion(question) {
    element("gloss").textContent = this.pick?.gloss ?? "";
    const mustSay = !this.pick && question.options.length > 0;
    element("right").hidden = !mustSay;
    /** @type {HTMLElement[]} */
    const labels = [...element("right").querySelectorAll("span")];
    labels.forEach((label, place) => {
      label.textContent = question.options[place] ?? "";
    });
  }

  /**
   * @param {string} name
   * @param {Question} question
   * @param {Said} said
   */
  showAnswer(name, question, said) {
    const reward = node("div", "demo-reward");
    const redraw = () => {
      reward.textContent = this.rewardInWords(question, said.answer);
    };
    redraw();
    this.redraws.push(redraw);

    const answer = node("div", "demo-answer", said.answer || "(nothing)");
    answer.lang = "ko";
    const row = node("li", "");
    row.dataset.checkpoint = name;
    row.append(node("div", "demo-name", titleOf(name)));
    row.append(...oddsOf(question, said.probabilities), answer, reward);
    element("results").append(row);
  }

  /**
   * @param {Question} question
   * @param {string} answer
   * @returns {string}
   */
  rewardInWords(question, answer) {
    const right = this.right(question);
    /** @type {Record<string, number>} */
    const scores = { format: formatScore(answer, question, right) };
    if (right) scores.em = exactMatch(answer, right);

    const weights = this.model.data.rewardWeights;
    const words = Object.entries(scores).map(
      ([name, score]) => `${PAID[name]} ${score} × ${rounded(weights[name])}`,
    );
    const sum = Object.entries(scores).reduce((total, [name, score]) => total + score * weights[name], 0);
    const split = splitThought(answer);
    const thought = split.thought ? `It thinks: ${split.thought} ` : "";
    return `${thought}Paid: ${words.join(" + ")} = ${rounded(sum)}`;
  }

  /**
   * Return what is to be said of a question once it is answered.
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
 * @param {HTMLSelectElement} select
 * @param {Pick[]} picks
 */
function fillPicks(select, picks) {
  const groups = new Map();
  for (const pick of picks) {
    if (!groups.has(pick.group)) {
      const group = document.createElement("optgroup");
      group.label = pick.group;
      groups.set(pick.group, group);
    }
    groups.get(pick.group).append(new Option(`${pick.sentence} ${pick.gloss}`, pick.id));
  }
  select.replaceChildren(...groups.values());
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
  const bar = node("div", "demo-bar");
  bar.ariaHidden = "true"; // the words say it

  probabilities.forEach((probability, place) => {
    const kind = place === 0 ? "is-a" : "is-b";
    const letter = "AB"[place];
    const word = node("span", kind, `P(${letter}) = ${rounded(probability)} `);
    const option = node("span", "", question.options[place]);
    option.lang = "ko";
    word.dataset.probability = String(probability);
    word.append(option);
    words.append(word);

    const part = node("div", kind);
    part.style.width = `${100 * probability}%`;
    bar.append(part);
  });
  return [words, bar];
}

/**
 * @param {string} name
 * @param {string} kind
 * @param {string} text
 * @returns {HTMLElement}
 */
function node(name, kind, text = "") {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

/**
 * @param {string} text
 * @param {boolean} isWrong
 */
function say(text, isWrong = false) {
  element("status").textContent = text;
  element("status").classList.toggle("is-wrong", isWrong);
}

/**
 * Return a checkpoint's name as people read it.
 * @param {string} name
 * @returns {string}
 */
function titleOf(name) {
  return name.replace("_", " ");
}

/**
 * @param {number} number
 * @returns {string}
 */
function rounded(number) {
  return number.toFixed(3).replace(/\.?0+$/, "");
}

say("Loading the model …");
try {
  await new Page(await Model.load()).start();
} catch (error) {
  say(`The model cannot be loaded: ${error instanceof Error ? error.message : error}`, true);
}
