"""The word-chain game (끝말잇기): questions that need one step after another, and their teacher."""
