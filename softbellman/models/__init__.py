"""Networks: one decoder behind a text encoder (actor, critic, Q-network, oracle) or an image's features or pixels (actor)."""

from softbellman.models.attention_seq2seq import AttentionSeq2Seq
from softbellman.models.captioner import Captioner
from softbellman.models.decoder import AttentionDecoder
from softbellman.models.pixels import PixelCaptioner, PixelEncoder
from softbellman.models.records import DecoderState, Memory

__all__ = [
    "AttentionDecoder",
    "AttentionSeq2Seq",
    "Captioner",
    "DecoderState",
    "Memory",
    "PixelCaptioner",
    "PixelEncoder",
]
