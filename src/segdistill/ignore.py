"""The one label that counts nowhere."""

# No loss and no metric counts it; also how the engine hides pixels from a term (a boundary band, a doubtful teacher).
IGNORE = 255
