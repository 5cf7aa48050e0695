"""How the embedded world was made: its tokenizer, its pretraining corpus, its model, and measurements of them."""
