{% autoescape off %}python -m site_agent {{ words }} --run{% endautoescape %}
