echo 'All is verified. Installing takes some minutes and needs no network ...'
python3.11 -m venv agent
agent/bin/python -m pip install --quiet --no-index --require-hashes --find-links . -r requirements.txt
echo "Installed. In each new terminal, before any python -m site_agent:  . $PWD/agent/bin/activate"
