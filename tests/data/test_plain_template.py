from __future__ import annotations

import pytest
from tests.data.conftest import CHATML

from ridgeline.data.plain_template import is_plain
from ridgeline.data.template import TEMPLATES

SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nHello<|im_end|>\\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ATTRIBUTES = (
    "{%- for m in messages -%}{% if m.role == 'user' %}[{{ m.content }}]"
    "{% else %}{{ bos_token ~ m.content ~ eos_token }}{% endif %}{%- endfor -%}"
)


@pytest.mark.parametrize(
    "template", [CHATML, SMOLLM, ATTRIBUTES, (TEMPLATES / "chatml.jinja").read_text(encoding="utf-8")]
)
def test_templates_that_only_copy(template):
    assert is_plain(template)


@pytest.mark.parametrize(
    "inner",
    [
        "{{ m['content'] | trim }}",
        "{{ m['content'][:3] }}",
        "{{ m.content.strip() }}",
        "{{ 'a' + m['content'] | upper }}",
        "{{ m['content'] * 2 }}",
        "{% if m['content'] %}x{% endif %}{{ m['content'] }}",
        "{% if 'x' in m['content'] %}x{% endif %}{{ m['content'] }}",
        "{% if m.content is string %}{{ m.content }}{% endif %}",
        "{{ (m.content + 'a') == 'ba' }}",
        "{% set text = m['content'] %}{{ text | trim }}",
        "{% set it = m %}{{ it['content'] | trim }}",
        "{% set text %}{{ m['content'] }}{% endset %}{{ text | trim }}",
        "{% filter upper %}{{ m['content'] }}{% endfilter %}",
        "{{ loop.previtem.content | length if loop.previtem }}{{ m['content'] }}",
        "{{ loop.changed(m.content) }}{{ m['content'] }}",
        "{{ m['con' + 'tent'] | trim }}",
        "{{ m.values() | list }}",
        "{{ m | tojson }}",
        "{{ messages | tojson }}",
        "{{ (messages | last).content }}",
        "{{ messages[-1:][0].content }}",
        "{{ messages[loop.index0]['content'] | trim }}",
        "{% for other in messages[1:] %}{{ other.content | trim }}{% endfor %}",
        "{% macro show(x) %}{{ x | trim }}{% endmacro %}{{ show(m.content) }}",
    ],
)
def test_templates_that_look_at_what_was_said(inner):
    assert not is_plain("{% for m in messages %}" + inner + "{% endfor %}")


def test_what_is_no_template_or_reads_no_messages_is_not_plain():
    assert not is_plain("{% for m in messages %}")
    assert not is_plain("{% generation %}{% endgeneration %}")
    assert not is_plain("hello")
    assert not is_plain("{% set all = messages %}{% for m in all %}{{ m.content | trim }}{% endfor %}")
