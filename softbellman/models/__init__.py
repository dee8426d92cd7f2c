"""Networks: one decoder behind a text encoder (actor, critic, Q-network, oracle) or an image's features or pixels (actor).

There are two kinds, LSTM and Transformer, with the same methods.
"""

from softbellman.models.attention_seq2seq import AttentionSeq2Seq
from softbellman.models.captioner import Captioner
from softbellman.models.decoder import AttentionDecoder
from softbellman.models.pixels import PixelCaptioner, PixelEncoder
from softbellman.models.records import DecoderState, Memory
from softbellman.models.transformer import TransformerDecoder, TransformerSeq2Seq
from softbellman.models.transformer_captioner import TransformerCaptioner, TransformerPixelCaptioner
from softbellman.models.transformer_state import TransformerMemory, TransformerState

__all__ = [
    "AttentionDecoder",
    "AttentionSeq2Seq",
    "Captioner",
    "DecoderState",
    "Memory",
    "PixelCaptioner",
    "PixelEncoder",
    "TransformerCaptioner",
    "TransformerDecoder",
    "TransformerMemory",
    "TransformerPixelCaptioner",
    "TransformerSeq2Seq",
    "TransformerState",
]
