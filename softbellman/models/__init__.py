"""Sequence-to-sequence networks: one architecture serves as actor, critic, Q-network and oracle."""

from softbellman.models.attention_seq2seq import AttentionSeq2Seq
from softbellman.models.records import DecoderState, Memory

__all__ = ["AttentionSeq2Seq", "DecoderState", "Memory"]
