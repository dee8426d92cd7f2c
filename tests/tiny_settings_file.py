"""A settings file of runs that take seconds, for tests of commands and experiments."""

SETTINGS = """
data: {pairs: 120, dev_pairs: 20, test_pairs: 20, difficulty: 1.0, min_frequency: 1, max_length: 20}
model: {embedding: 16, hidden: 16, attention_size: 16}
actor: {optimizer: {name: adam, learning_rate: 5e-3}, schedule: {batch_size: 20, epochs: 2}}
critic: {schedule: {batch_size: 20, epochs: 1}}
joint: {schedule: {batch_size: 20, epochs: 1}}
evaluation: {beam: 2, max_length: 24}
device: cpu
"""
