"""Whole federations on one machine: launching them, and knowing their cost and their data beforehand."""
