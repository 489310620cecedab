"""The papers that a study names by first author and year, as a reader finds them."""

import re

# (first author or name, year): reference
PAPERS: dict[tuple[str, str], str] = {
    ("Csurka", "2013"): "Csurka, Larlus, Perronnin: What is a good evaluation measure for semantic "
    "segmentation? BMVC 2013.",
    ("Davison", "1997"): "Davison, Hinkley: Bootstrap methods and their application. Cambridge "
    "University Press, 1997.",
    ("Drozdzal", "2016"): "Drozdzal et al.: The importance of skip connections in biomedical image "
    "segmentation. 2016, arXiv:1608.04117.",
    ("Efron", "1979"): "Efron: Bootstrap methods: another look at the jackknife. Annals of "
    "Statistics 7, 1979.",
    ("Glorot", "2010"): "Glorot, Bengio: Understanding the difficulty of training deep feedforward "
    "neural networks. AISTATS 2010.",
    ("He", "2015"): "He et al.: Deep residual learning for image recognition. 2015, "
    "arXiv:1512.03385; and, for the initialisation, Delving deep into rectifiers. 2015, "
    "arXiv:1502.01852.",
    ("Hesterberg", "2015"): "Hesterberg: What teachers should know about the bootstrap. The "
    "American Statistician 69, 2015.",
    ("Holm", "1979"): "Holm: A simple sequentially rejective multiple test procedure. Scandinavian "
    "Journal of Statistics 6, 1979.",
    ("Huang", "2017"): "Huang et al.: Densely connected convolutional networks. CVPR 2017, "
    "arXiv:1608.06993.",
    ("Ioffe", "2015"): "Ioffe, Szegedy: Batch normalization. ICML 2015, arXiv:1502.03167.",
    ("Kamath", "2023"): "Kamath et al.: Do we really need that skip-connection? Understanding its "
    "interplay with task complexity. MICCAI 2023.",
    ("Kohli", "2009"): "Kohli, Ladický, Torr: Robust higher order potentials for enforcing label "
    "consistency. International Journal of Computer Vision 82, 2009.",
    ("Li", "2018"): "Li et al.: Visualizing the loss landscape of neural nets. NeurIPS 2018, "
    "arXiv:1712.09913.",
    ("Philipp", "2017"): "Philipp, Song, Carbonell: The exploding gradient problem demystified. "
    "2017, arXiv:1712.05577.",
    ("Phipson", "2010"): "Phipson, Smyth: Permutation p-values should never be zero. Statistical "
    "Applications in Genetics and Molecular Biology 9, 2010.",
    ("Ronneberger", "2015"): "Ronneberger, Fischer, Brox: U-Net: convolutional networks for "
    "biomedical image segmentation. MICCAI 2015, arXiv:1505.04597.",
    ("UCTransNet", "2022"): "Wang et al.: UCTransNet: rethinking the skip connections in U-Net "
    "from a channel-wise perspective with transformer. AAAI 2022, arXiv:2109.04335.",
    ("UNet++", "2018"): "Zhou et al.: UNet++: a nested U-Net architecture for medical image "
    "segmentation. 2018, arXiv:1807.10165.",
    ("Veit", "2016"): "Veit, Wilber, Belongie: Residual networks behave like ensembles of "
    "relatively shallow networks. NeurIPS 2016, arXiv:1605.06431.",
    ("Wilm", "2024"): "Wilm et al.: Rethinking U-net skip connections for biomedical image "
    "segmentation. 2024, arXiv:2402.08276.",
    ("Zaeemzadeh", "2020"): "Zaeemzadeh, Rahnavard, Shah: Norm-preservation: why residual networks "
    "can become extremely deep? IEEE TPAMI, 2020, arXiv:1805.07477.",
}
STATISTICS = "Efron 1979, Hesterberg 2015, Davison 1997, Phipson 2010, Holm 1979"


def references_in(text: str) -> list[str]:
    """Return the references of ``Name (year)`` and ``Name year`` that are known, by name."""
    flat = " ".join(text.split())
    others = r"(?: et al\.|(?:,| and| &) [^\W\d]+)*"
    return [
        reference
        for (name, year), reference in sorted(PAPERS.items())
        if re.search(rf"(?<!\w){re.escape(name)}{others},? \(?{year}\b", flat)
    ]
