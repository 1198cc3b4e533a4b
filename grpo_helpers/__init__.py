"""Helpers of the GRPO course on Korean orthography norms (어문 규범).

Modules in import order; a module imports only modules listed above it:

files, command_line, splits, library_fixes, letters, answers, similarity, questions, romanise, data,
chat_template, prompts, metrics, rewards, thoughts, reward_module, batch, architecture, parameters,
memory, settings, hours, devices, preflight, model_checks, models, rollout_server, preview,
run_folder, device_memory, kept_model, shared_prompts, inference, dev_answers, health, callbacks,
launch_log, launch, shared_prefix, server_trainer, training, by_hand, by_hand_checks, scoring,
statistics, selection, inspector, report, evaluate_json, recorded, carry_over, coverage,
thinking_runs, clinic, coins, plots, live, course_folder, course_summary, headless, course.

Nothing is re-exported and nothing heavy is imported here: ``import grpo_helpers`` costs
milliseconds and touches no network.
"""

from grpo_helpers.library_fixes import apply_at_import

apply_at_import()

__version__ = "0.1.0"
