"""Architectures of transformers whose logits were compared with their heads, by rule of `softbellman.hf.architectures`.

Each was built small, with random buffers and fields other than their neutral values, and asked by `verify_head`.
"""

from __future__ import annotations

_NAMES = {
    "plain": """
        AfmoeForCausalLM Apertus1p5TextForCausalLM ApertusForCausalLM ArceeForCausalLM AriaForConditionalGeneration
        AriaTextForCausalLM AudioFlamingo3ForConditionalGeneration AXK1ForCausalLM AXK2ForCausalLM
        AyaVisionForConditionalGeneration BailingHybridForCausalLM BambaForCausalLM BartForCausalLM
        BertGenerationDecoder BigBirdPegasusForCausalLM BioGptForCausalLM BitNetForCausalLM BlenderbotForCausalLM
        BlenderbotSmallForCausalLM BloomForCausalLM CodeGenForCausalLM Cohere2VisionForConditionalGeneration
        Cosmos3OmniForConditionalGeneration CpmAntForCausalLM CTRLLMHeadModel CwmForCausalLM DbrxForCausalLM
        DeepseekV2ForCausalLM DeepseekV32ForCausalLM DeepseekV3ForCausalLM DeepseekV4ForCausalLM
        DeepseekVLForConditionalGeneration DiffLlamaForCausalLM DogeForCausalLM Emu3ForCausalLM
        Ernie4_5_MoeForCausalLM Ernie4_5ForCausalLM Exaone4ForCausalLM ExaoneMoeForCausalLM FalconForCausalLM
        FlexOlmoForCausalLM FlintForCausalLM FuyuForCausalLM Gemma3ForConditionalGeneration GemmaForCausalLM
        Glm4ForCausalLM Glm4MoeForCausalLM Glm4MoeLiteForCausalLM GlmAsrForConditionalGeneration GlmForCausalLM
        GlmMoeDsaForCausalLM GotOcr2ForConditionalGeneration GPT2LMHeadModel GPTBigCodeForCausalLM GPTJForCausalLM
        GPTNeoForCausalLM GPTNeoXForCausalLM GPTNeoXJapaneseForCausalLM GptOssForCausalLM HeliumForCausalLM
        HrmTextForCausalLM HunYuanDenseV1ForCausalLM HunYuanMoEV1ForCausalLM HYV3ForCausalLM
        Idefics2ForConditionalGeneration Idefics3ForConditionalGeneration InternVLForConditionalGeneration
        Jais2ForCausalLM JambaForCausalLM JetMoeForCausalLM Kolibri1ForCausalLM LagunaForCausalLM LaraMiniForCausalLM
        Lfm2ForCausalLM Lfm2MoeForCausalLM Lfm2VlForConditionalGeneration Lfm3ForCausalLM
        LightOnOcrForConditionalGeneration Llama4ForCausalLM LlamaForCausalLM LlavaForConditionalGeneration
        LlavaNextForConditionalGeneration LlavaNextVideoForConditionalGeneration
        LlavaOnevisionForConditionalGeneration LongcatFlashForCausalLM M2M100ForConditionalGeneration
        MarianForCausalLM MBartForCausalLM MellumForCausalLM MiMoV2FlashForCausalLM MiniMaxForCausalLM
        MiniMaxM2ForCausalLM MiniMaxM3SparseForConditionalGeneration MiniMaxM3VLForCausalLM Ministral3ForCausalLM
        MinistralForCausalLM Mistral3ForConditionalGeneration Mistral4ForCausalLM MistralForCausalLM
        MixtralForCausalLM MllamaForCausalLM MllamaForConditionalGeneration MoshiForCausalLM
        MossTranscribeDiarizeForConditionalGeneration MptForCausalLM MT5ForConditionalGeneration MvpForCausalLM
        NemotronForCausalLM NemotronHForCausalLM NllbMoeForConditionalGeneration Olmo2ForCausalLM Olmo3ForCausalLM
        OlmoeForCausalLM OlmoForCausalLM OlmoHybridForCausalLM OmniASRForConditionalGeneration OpenAIGPTLMHeadModel
        OPTForCausalLM Ovis2ForConditionalGeneration PegasusForCausalLM PegasusXForConditionalGeneration
        PersimmonForCausalLM Phi3ForCausalLM PhiForCausalLM PhimoeForCausalLM PLBartForCausalLM
        QianfanOCRForConditionalGeneration Qwen2_5_VLForConditionalGeneration Qwen2AudioForConditionalGeneration
        Qwen2ForCausalLM Qwen2MoeForCausalLM Qwen2VLForConditionalGeneration Qwen3_5ForCausalLM
        Qwen3_5ForConditionalGeneration Qwen3_5MoeForCausalLM Qwen3ASRForConditionalGeneration Qwen3ForCausalLM
        Qwen3MoeForCausalLM Qwen3NextForCausalLM Qwen3OmniMoeThinkerForConditionalGeneration
        Qwen3VLForConditionalGeneration Qwen3VLMoeForConditionalGeneration RwkvForCausalLM SeamlessM4TForTextToText
        SeamlessM4Tv2ForTextToText SeedOssForCausalLM SmolLM3ForCausalLM SmolVLMForConditionalGeneration
        SolarOpenForCausalLM StableLmForCausalLM Starcoder2ForCausalLM Step3p7ForConditionalGeneration
        TrOCRForCausalLM VideoLlama3ForConditionalGeneration VideoLlavaForConditionalGeneration
        VipLlavaForConditionalGeneration VoxtralForConditionalGeneration WhisperForCausalLM XGLMForCausalLM
        XLMWithLMHeadModel XLNetLMHeadModel YoutuForCausalLM Zamba2ForCausalLM
    """,
    "cast": """
        FalconMambaForCausalLM HYV4ForCausalLM Mamba2ForCausalLM MambaForCausalLM
    """,
    "divided_by_logits_scaling": """
        GraniteForCausalLM GraniteMoeForCausalLM GraniteMoeHybridForCausalLM GraniteMoeSharedForCausalLM
        GraniteMoeSWAForCausalLM GraniteSWAForCausalLM
    """,
    "final_logit_softcapping": """
        BeamForCausalLM Gemma2ForCausalLM Gemma3ForCausalLM Gemma3nForCausalLM Gemma4ForCausalLM
        Gemma4UnifiedForCausalLM Inkling2ForCausalLM Inkling2LoopForCausalLM NanoChatForCausalLM
        PaliGemmaForConditionalGeneration T5Gemma2ForConditionalGeneration T5GemmaForConditionalGeneration
        VaultGemmaForCausalLM
    """,
    "final_logits_bias": """
        BartForConditionalGeneration BigBirdPegasusForConditionalGeneration BlenderbotForConditionalGeneration
        BlenderbotSmallForConditionalGeneration LEDForConditionalGeneration MarianMTModel
        MBartForConditionalGeneration MvpForConditionalGeneration PegasusForConditionalGeneration
        PLBartForConditionalGeneration
    """,
    "hidden_divided_by_logits_scaling": """
        MiniCPM3ForCausalLM
    """,
    "lm_head_multiplier": """
        FalconH1ForCausalLM
    """,
    "logit_scale": """
        Cohere2ForCausalLM Cohere2MoeForCausalLM CohereForCausalLM
    """,
    "logits_soft_cap": """
        RecurrentGemmaForCausalLM
    """,
    "mup_width_and_padding": """
        InklingForCausalLM InklingForConditionalGeneration
    """,
    "output_multiplier_and_softcap": """
        MuseGlimmerForConditionalGeneration
    """,
    "scale_decoder_outputs": """
        LongT5ForConditionalGeneration T5ForConditionalGeneration UMT5ForConditionalGeneration
    """,
    "scaled_where_tied": """
        SwitchTransformersForConditionalGeneration
    """,
    "times_logits_scaling": """
        HyperCLOVAXForCausalLM HyperCLOVAXVisionV2ForConditionalGeneration
    """,
}

ARCHITECTURES = {name: rule for rule, names in _NAMES.items() for name in names.split()}
"""The rule of each architecture, by the name of the class whose `forward` runs."""
