"""The five stages that every cell of every experiment flows through."""
