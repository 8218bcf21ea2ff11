from django.conf import settings


def test_tests_never_touch_the_state_of_an_installation():
    assert "fedslice-tests-" in str(settings.STATE_DIR)
    assert str(settings.BASE_DIR / "var") not in str(settings.DATABASES["default"]["NAME"])
