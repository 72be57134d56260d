"""Classes of genes that need no file: well known ones, which any of the models should tell apart.

Cell-cycle genes follow the widely used lists of Tirosh et al. 2016 (S and G2/M), by their approved symbols; ribosomal
proteins, HLA genes and the protein-coding genes of the mitochondrial genome are classes of the HGNC's nomenclature.
"""

from __future__ import annotations

_S = (
    "MCM5 PCNA TYMS FEN1 MCM2 MCM4 RRM1 UNG GINS2 MCM6 CDCA7 DTL PRIM1 UHRF1 CENPU HELLS RFC2 RPA2 NASP RAD51AP1 GMNN "
    "WDR76 SLBP CCNE2 UBR7 POLD3 MSH2 ATAD2 RAD51 RRM2 CDC45 CDC6 EXO1 TIPIN DSCC1 BLM CASP8AP2 USP1 CLSPN POLA1 "
    "CHAF1B BRIP1 E2F8"
)
_G2M = (
    "HMGB2 CDK1 NUSAP1 UBE2C BIRC5 TPX2 TOP2A NDC80 CKS2 NUF2 CKS1B MKI67 TMPO CENPF TACC3 PIMREG SMC4 CCNB2 CKAP2L "
    "CKAP2 AURKB BUB1 KIF11 ANP32E TUBB4B GTSE1 KIF20B HJURP CDCA3 JPT1 CDC20 TTK CDC25C KIF2C RANGAP1 NCAPD2 DLGAP5 "
    "CDCA2 CDCA8 ECT2 KIF23 HMMR AURKA PSRC1 ANLN LBR CKAP5 CENPE CTCF NEK2 G2E3 GAS2L3 CBX5 CENPA"
)
_SMALL = "SA S2 S3 S3A S4X S4Y1 S5 S6 S7 S8 S9 S10 S11 S12 S13 S14 S15 S15A S16 S17 S18 S19 S20 S21 S23 S24 S25 S26"
_SMALL += " S27 S27A S28 S29"
_LARGE = "L3 L4 L5 L6 L7 L7A L8 L9 L10 L10A L11 L12 L13 L13A L14 L15 L17 L18 L18A L19 L21 L22 L23 L23A L24 L26 L27"
_LARGE += " L27A L28 L29 L30 L31 L32 L34 L35 L35A L36 L36A L37 L37A L38 L39 LP0 LP1 LP2"
_HLA = "A B C E F G DMA DMB DOA DOB DPA1 DPB1 DQA1 DQA2 DQB1 DQB2 DRA DRB1 DRB5"
_MT = "ND1 ND2 ND3 ND4 ND4L ND5 ND6 CO1 CO2 CO3 ATP6 ATP8 CYB"

#: Class -> symbols.
CLASSES = {
    "cell cycle, S": tuple(_S.split()),
    "cell cycle, G2/M": tuple(_G2M.split()),
    "ribosomal protein": tuple(f"RP{name}" for name in (*_SMALL.split(), *_LARGE.split())),
    "HLA": tuple(f"HLA-{name}" for name in _HLA.split()),
    "mitochondrial genome": tuple(f"MT-{name}" for name in _MT.split()),
}
