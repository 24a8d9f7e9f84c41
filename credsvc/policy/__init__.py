"""Policy: who may do what, in Cedar, validated when it is loaded."""
