"""What ``scripts/bench`` measures: hermesd beside what people would use in its place, in one run on one machine.

Each measurement is a module with ``measure(effort, say) -> list[Row]``; `catalogue` names them. Ours and its baselines
take turns within every run, so that whatever else the machine does hits all of them.
"""
