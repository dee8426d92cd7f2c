"""What `sort_with_credit.py` is made of: the tasks, the model, the arms, and the table with its figure."""
