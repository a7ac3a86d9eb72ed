"""A night made by hand around a study made by hand."""

from __future__ import annotations

from dynaq.config import Config
from dynaq.config_file import load_config
from dynaq.data.manifest import Manifest
from dynaq.evaluation.fairness.counterfactual import Swing
from dynaq.evaluation.judges.judged import ArmRelevance
from dynaq.evaluation.report.night import Night
from dynaq.evaluation.similarity import SimilarityReached
from dynaq.evaluation.study.study import Study
from tests.evaluation.hand_made import GAMMA, curve_to, estimate
from tests.paths import ROOT

MLFLOW = "http://mlflow.internal:5000"
STRANGE = "night <script>alert(1)</script> & | day ![x](http://example.invalid/x.png)"


def configured(**overrides: object) -> Config:
    given = {"name": STRANGE, "agent.gamma": GAMMA, "tracking.uri": MLFLOW, **overrides}
    return load_config(ROOT / "configs" / "real.yaml", given)


def night_of(study: Study, manifest: Manifest, config: Config | None = None) -> Night:
    agents = {"cosine": curve_to(0.1, 0.5, 1), "llm": curve_to(0.1, 0.4, 2), "hybrid": curve_to(0.2, 0.6, 3)}
    swing = Swing(40, 36, estimate(0.06), estimate(0.71), estimate(0.14), estimate(-0.004), estimate(0.31))
    still = Swing(40, 0, None, None, None, None, None)
    return Night(
        config=config or configured(),
        manifest=manifest.model_copy(update={"quarantined": {"all_jobs": {"zero vector": 3}}}),
        study=study,
        similarity=[SimilarityReached(best=0.8, trained=0.72, untrained=0.2, random=0.1, applicants=18)],
        training={"training reward per job shown": agents, "TD loss": agents},
        label_source="gpt-4o-mini $x$",
        label_cost={"calls": 1234, "labels_used": 406},
        account="406 labels (94 left), 120,000 tokens",
        audit="Only 0.20 instead of 0.4.",
        trusted=False,
        seconds={"pretrain": 12.4},
        relevance={
            f"Job views: {STRANGE}": [
                ArmRelevance(arm, metric, 0.21 + place / 50, 0.18 + place / 50, 0.24 + place / 50, {"random": 0.0004})
                for metric in ("NDCG@10", "hit@10")
                for place, arm in enumerate(("hybrid", "cosine", "raw | cosine"))
            ]
        },
        fairness=[("hybrid", "a man's name, then a woman's", swing), ("hybrid", "gendered words swapped", still)],
        champion="version 3 of dynaq is the champion now: hybrid is +0.0300 [+0.0101, +0.0500] ahead",
        missing={"cosine": 0, "llm": 37},
    )
