"""Tools behind figures that were recorded once, kept so that they can be made again.

``encoders`` and ``e5_encoder`` made ``data/reward_lab/encoders.json``, the table of encoders in
``docs/rewards.md``, from which BERTScore's encoder was chosen.
"""
