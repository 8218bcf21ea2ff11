{% autoescape off %}python -m site_agent {{ words }} &&
python -m site_agent service install{% endautoescape %}
