"""Words that help nobody: too general to be explained, or no content at all."""

from __future__ import annotations

from fedmedpeft.knowledge.tokens import key

_GENERAL = """
abnormal, abnormality, acute, adult, affect, age, all, area, aspect, attention, awareness, back, base, behavior,
border, case, cause, cell, change, child, choice, chronic, color, common, comprehension, condition, consciousness,
contour, control, data, death, diagnosis, diagnostic imaging, difference, disease, disease of anatomical entity,
disorder, effect, element, evidence, eye color, family, female, field, film, finding, form, function, general, goal,
growth, habit, health, history, human, image, imagination, individual, infant, infection, injury, intention, judgment,
language, left, level, light, line, male, man, material, memory, method, middle, name, normal, nothing, object,
observation, organ, part, pathologic process, pathology, patient, people, perception, person, phenotype, plane,
population, position, process, property, quality, reaction, reading, region, right, risk, role, section, sensation,
sex, shape, side, sign, signs and symptoms, size, skin color, state, structure, study, surface, symptom, syndrome,
system, technique, test, therapeutics, thinking, time, tissue, treatment, type, view, vision, visual perception,
volition, weight, well, wish, work
"""
_FUNCTION = """
a about above after again against all along also an and any are around as at be because been before being below beneath
between both but by can could did do does doing done down during each etc few for from further get given had has have
having he her here hers him his how i if in inside into is it its just less like likely look many may me might more most
much must my near no nor not of off on once one only or other our out outside over own per please possible same see
seem seen shall she should show shown so some such tell than that the their them then there these they this those
through to too two three under until up upon us used using very was we were what when where whether which while who
whom whose why will with within without would yes yet you your
"""

FUNCTION_WORDS = frozenset(form for word in _FUNCTION.split() for form in key(word))
"""Normal forms that are no content."""


GENERAL_TERMS = frozenset(key(term.strip()) for term in _GENERAL.split(","))
"""Keys of terms that are never linked."""
