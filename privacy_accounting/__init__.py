"""What noise is worth: epsilon, composed over steps and runs by dp-accounting (Google's library).

Outside of enclaves, which state only the parameters of their noise (contracts/privacy.py). Coordinator, agent
and the bundle's verifier all come here, so that one library gives one number.
"""
