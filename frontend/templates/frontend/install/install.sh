python3.11 -m venv agent
agent/bin/python -m pip install --quiet --no-index --require-hashes --find-links . -r requirements.txt
echo "Installed in $PWD/agent."
