"""A verdict for people."""

from __future__ import annotations

from harness.inspection.verdict import Verdict


def lines(verdict: Verdict) -> list[str]:
    """The verdict line by line, the answer first."""
    genes = verdict.gene_report
    answer = "fit" if verdict.fit else f"not fit: {'; '.join(verdict.problems)}"
    out = [
        f"{verdict.path}: {answer}",
        f"  {verdict.cells:,} cells x {verdict.genes:,} genes; values looked at in {verdict.looked_at:,} cells",
        "values",
    ]
    for where, values in verdict.matrices.items():
        mark = "  <- counts are read from here" if where == verdict.counts_in else ""
        out.append(f"  {where:<10} {values.kind}: {values.evidence}{mark}")
    out += ["genes", f"  {genes.ids} (in {genes.where}); organism {genes.organism}: {genes.evidence}"]
    if genes.versions:
        out.append(f"  {genes.versions} Ensembl ids carry a version, which is cut off")
    if genes.duplicates:
        out.append(f"  {genes.duplicates} columns repeat an id ({', '.join(genes.duplicate_examples)})")
    if genes.dates:
        out.append(f"  look like dates, as spreadsheets make of symbols: {', '.join(genes.dates)}")
    if genes.odd_case:
        out.append(f"  {genes.odd_case} symbols in unusual case ({', '.join(genes.odd_case_examples)})")
    out.append("columns of obs")
    for role, candidates in verdict.columns.items():
        first, *others = candidates
        examples = ", ".join(f"{name} ({n})" for name, n in first.examples)
        also = f"; or {', '.join(c.column for c in others)}" if others else ""
        control = f"; control: {first.control}" if first.control else ""
        gaps = f"; {first.missing} cells without" if first.missing else ""
        out.append(f"  {role:<10} {first.column}: {first.values} values, {examples}{gaps}{control}{also}")
    if not verdict.columns:
        out.append("  none looks like a cell type, batch, donor or condition; say dataset.cell_type=COLUMN")
    out += [f"note: {note}" for note in verdict.notes]
    if verdict.coverage:
        out.append("coverage of the weights that are here")
    for model, met in verdict.coverage.items():
        out.append(f"  {model:<14} {met.get('error') or met['says']}")
    out.append("can run")
    out += [f"  {task:<14} {'yes' if not why else f'no: {why}'}" for task, why in verdict.tasks.items()]
    out.append(f"  {'embed':<14} {'yes' if verdict.fit else 'no'}")
    if verdict.fit:
        said = " ".join(f"{key}={_quoted(value)}" for key, value in verdict.settings.items())
        task = next((name for name, why in verdict.tasks.items() if not why), None)
        command = f"run model=pca task={task}" if task else "embed model=pca out=embedding.npz"
        out.append(f"try: cellfm-bench {command} {said}")
    return out


def _quoted(value: str) -> str:
    return value if all(c.isalnum() or c in "._-/+" for c in value) else f"'\"{value}\"'"
