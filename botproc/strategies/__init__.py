"""The strategies that come with Stablehand, one file each."""
