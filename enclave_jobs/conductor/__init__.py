"""The round conductor: it moves every run on, one small step at a time.

A step reads the state, does one thing, and commits; what it makes possible is dispatched after the commit.
Each step may run twice, on two workers at once, or be killed at any point: what it asks of an enclave is
asked under a key that is answered once (`supervisor/answers.py`), and what it writes, it writes by
conditional update. The sweep (beat) takes up whatever was left lying. A step that was overtaken judges
nothing (position.py).

    starting      a server enclave, bound, attested, logged          starting.py, attesting.py
    joining       sites come to it, each as its method asks          joining.py
    rounds        open, collect, inspect, fix the roster             rounds.py, collecting.py, inspecting.py
    countersigning  every listed site signs the roster once          countersigning.py
    aggregating   in the enclave; receipt checked, logged, published aggregating.py, publishing.py
    finishing     summary, enclave stopped                           finishing.py
    restarting    an enclave was lost: new keys, restored state      restarting.py

Where the methods of training differ, a step asks the run's method (methods/): what a site is asked, how a
round closes, what is restored.
"""
