"""Agents that workers run, and the contract for anybody's own."""
