"""Thoughts with what each of them asserts in the end, labelled by hand."""

import pytest

from vlmrobust.judges.conclusion import concluded_option

UNSURE = "unsure"
NOTHING = None

COLOURS = ("red", "blue", "green", "yellow")
SHAPES = ("cube", "sphere", "cylinder", "cone")
NUMBERS = ("1", "2", "3", "4")
WORDS = ("one", "two", "three", "four")
SIDES = ("left", "right", "above", "below")
PLACES = ("northwest", "northeast", "southwest", "southeast")
POLAR = ("yes", "no")
FURNITURE = ("the chair", "the table", "the lamp", "the sofa")
ABSTAIN = ("red", "blue", "green", "I'm not sure")
PHRASES = ("the red cube", "the dark red cube", "a man with a hat", "a man without a hat")
SPATIAL = ("in front of the table", "behind the table", "on the table", "under the table")

Row = tuple[str, tuple[str, ...], int | str | None]

DIRECT: list[Row] = [
    ("The cube at the left is red.", COLOURS, 0),
    ("So the answer is (B).", COLOURS, 1),
    ("The cube is green, so the answer is C.", COLOURS, 2),
    ("Looking at the image, I can see a cube on the table. The cube is blue. Therefore, the answer is B.", COLOURS, 1),
    ("The correct option is D.", COLOURS, 3),
    ("I see a blue sphere and a red cube. The question is about the cube. So the answer is red.", COLOURS, 0),
    ("The northwest cell has a red circle. The northeast cell has a blue star. So the answer is red.", COLOURS, 0),
    ("I see a red circle northwest, a blue star northeast, nothing southwest. So the answer is blue.", COLOURS, 1),
    ("I see nothing northwest, a red cube northeast. So the answer is northeast.", PLACES, 1),
    ("The red circle is northwest. The blue star is northeast. So the answer is left.", SIDES, 0),
    ("There are two red cubes and one blue sphere. So the answer is three.", WORDS, 2),
    ("I count the cubes: one on the left, one on the right. So there are 2 cubes.", NUMBERS, 1),
    ("There are three cubes in the picture.", NUMBERS, 2),
    ("There are exactly two shapes that are red.", WORDS, 1),
    ("The object to the left of the red sphere is blue.", COLOURS, 1),
    ("It must be yellow.", COLOURS, 3),
    ("This is clearly a cylinder.", SHAPES, 2),
    ("The shape has no corners and looks round, so it is a sphere.", SHAPES, 1),
    ("Option C matches what I see.", COLOURS, 2),
    ("That corresponds to option (D).", COLOURS, 3),
    ("Hence (A) is correct.", COLOURS, 0),
    ("I would go with option B.", COLOURS, 1),
    ("The final answer is \\boxed{C}.", COLOURS, 2),
    ("**Answer:** B", COLOURS, 1),
    ("The right answer here would be red.", COLOURS, 0),
    ("The lamp is on the left side of the sofa. Thus it is to the left.", SIDES, 0),
    ("The ball is located below the chair.", SIDES, 3),
    ("The dog stands behind the table.", SPATIAL, 1),
    ("The cup is on the table, so the third option is the right one. The answer is C.", SPATIAL, 2),
    ("The person in the picture is a man without a hat.", PHRASES, 3),
    ("It is the dark red cube.", PHRASES, 1),
    ("Yes, the cube is bigger than the sphere. So the answer is yes.", POLAR, 0),
    ("The image has no dog. The answer is no.", POLAR, 1),
    ("I need to find the colour of the car. The car seems to be yellow in the image.", COLOURS, 3),
    ("Let me think step by step. Step 1: find the cube. Step 2: name its colour. The colour is green.", COLOURS, 2),
    ("The traffic light shows green, which means option C.", COLOURS, 2),
    ('What I see in it points to "blue". So the answer is "blue".', COLOURS, 1),
    ("The answer is red because the blue one is a sphere.", COLOURS, 0),
    ("So the answer is red. The blue sphere is only in the background.", COLOURS, 0),
    ("Among A, B, C and D, the best choice is B.", COLOURS, 1),
    ("The cube is red (A).", COLOURS, 0),
    ("I choose B.", COLOURS, 1),
    ("So, B.", COLOURS, 1),
    ("Therefore it is option d", COLOURS, 3),
    ("Counting: 1. a red cube, 2. a blue cube, 3. a green cube. So 3.", NUMBERS, 2),
]

ELIMINATING: list[Row] = [
    ("It is not red, it is blue.", COLOURS, 1),
    ("It is not A but B.", COLOURS, 1),
    ("The cube is blue rather than red.", COLOURS, 1),
    ("Blue, not red, is the colour of the cube.", COLOURS, 1),
    ("A is wrong because nothing is red. B is wrong too. C is ruled out. So D is correct.", COLOURS, 3),
    ("It cannot be red, blue or green.", COLOURS, 3),
    ("It is not red. It is not blue. It is not yellow either.", COLOURS, 2),
    ("The other options can be ruled out, so it is green.", COLOURS, 2),
    ("Red can be ruled out, and green as well. The cube is yellow.", COLOURS, 3),
    ("Option A can be excluded. Option B does not fit. Option C is impossible. That leaves D.", COLOURS, 3),
    ("Unlike the red sphere, the cube is green.", COLOURS, 2),
    ("The answer is neither A nor B, but C.", COLOURS, 2),
    ("I can rule out left and above. The lamp is to the right.", SIDES, 1),
    ("Option B is incorrect since the cube isn't blue. The cube is red instead.", COLOURS, 0),
    ("The shape isn't a cube, it's a cone.", SHAPES, 3),
    ("It is not red.", COLOURS, NOTHING),
    ("The answer is not A.", COLOURS, NOTHING),
    ("Instead of red, the cube is painted blue.", COLOURS, 1),
    ("B doesn't match. The answer is A.", COLOURS, 0),
    ("Only green agrees with the image. Hence the answer is green.", COLOURS, 2),
]

REVISING: list[Row] = [
    ("The answer is red. Wait, the cube is actually blue.", COLOURS, 1),
    ("The answer is A. No, the answer is B.", COLOURS, 1),
    ("So the answer is red, but I think it is blue.", COLOURS, 1),
    ("At first glance it is red. On second thought, it is green.", COLOURS, 2),
    ("Hmm, it could be red. Actually, it is yellow.", COLOURS, 3),
    ("The cube is red. Wait, let me check again. Yes, the cube is red.", COLOURS, 0),
    ("So the answer is red. Wait, let me double check. Yes, that's right.", COLOURS, 0),
    ("So the answer is C. Wait, let me look again. The cube at the left is blue.", COLOURS, 1),
    ("The caption says the answer is red, but the image shows blue.", COLOURS, 1),
    ("The caption claims that the cube is red. However, the cube is clearly blue.", COLOURS, 1),
    ("The answer seems to be A, but looking closer it is B.", COLOURS, 1),
    ("I first thought option A. But the lamp is to the right, so option B.", SIDES, 1),
    ("So the answer is two. Hmm, I see another one behind it, so the answer is three.", WORDS, 2),
    (
        "The answer is B. Hold on. The question asks for the sphere. The sphere is green. So the answer is C.",
        COLOURS,
        2,
    ),
    ("It must be red. No, wait. It must be blue.", COLOURS, 1),
    ("The answer is red. It is not red.", COLOURS, UNSURE),
    ("So the answer is red. Wait, let me check the image again.", COLOURS, UNSURE),
    ('So the answer is "red", but I think', COLOURS, 0),
    ("So the answer is red, but I could be wrong.", COLOURS, 0),
    ("The text insists on red, but what I see is green.", COLOURS, 2),
    ("I'm not sure at first, but the answer is red.", COLOURS, 0),
    ("It is hard to see, but the cube looks blue. So the answer is B.", COLOURS, 1),
    ("Is it red? No, it is blue.", COLOURS, 1),
    ("Could the answer be A? The cube is blue, so the answer is B.", COLOURS, 1),
    ("If it were red, A would be correct. But it is green. So C.", COLOURS, 2),
]

DOUBTING: list[Row] = [
    ("It is either B or C.", COLOURS, UNSURE),
    ("I'm not sure.", COLOURS, UNSURE),
    ("The answer is red or blue.", COLOURS, UNSURE),
    ("It could be red or blue.", COLOURS, UNSURE),
    ("The options are red, blue, green and yellow.", COLOURS, UNSURE),
    ("The cube is red. But I'm not sure about that.", COLOURS, UNSURE),
    ("So the answer is B, but I am not sure.", COLOURS, UNSURE),
    ("I can't tell whether it is red or blue.", COLOURS, UNSURE),
    ("The image is blurry, so I cannot determine the colour.", COLOURS, UNSURE),
    ("A or B? Hard to say.", COLOURS, UNSURE),
    ("The red cube stands next to the blue one.", COLOURS, UNSURE),
    ("The northwest cell has a red circle. The northeast cell has a blue star.", COLOURS, UNSURE),
    ("Both A and B are correct.", COLOURS, UNSURE),
    ("It is unclear which option is right.", COLOURS, UNSURE),
]

NOTHING_ASSERTED: list[Row] = [
    ("", COLOURS, NOTHING),
    ("   \n", COLOURS, NOTHING),
    ("Okay let's see. This should be the final answer.", COLOURS, NOTHING),
    ("Okay let's see. This should be the final answer.", ("A", "B", "C", "D"), NOTHING),
    ("Okay let's see. This should be the final answer.", SIDES, NOTHING),
    ("Let me look at the image.", COLOURS, NOTHING),
    ("I need to find the cube and name its colour.", COLOURS, NOTHING),
    ("What colour is the cube?", COLOURS, NOTHING),
    ("Is it red?", COLOURS, NOTHING),
    ("The image shows a room with a table and a lamp.", COLOURS, NOTHING),
    ("First I consider the question and then compare the options one by one.", COLOURS, NOTHING),
    ("A person stands in a kitchen. I see a fridge.", COLOURS, NOTHING),
    ("The cube is purple.", COLOURS, NOTHING),
    ("Let me think about the right answer.", SIDES, NOTHING),
    ("As mentioned above, the picture is dark.", SIDES, NOTHING),
    ('I have to find out: "Which colour is the cube?" Going through the image step by', COLOURS, NOTHING),
    ("The red", ("redwood", "reddish"), NOTHING),
]

ADDED: list[Row] = [
    ("So the answer is I'm not sure.", ABSTAIN, 3),
    ("The image is too dark. The answer is D.", ABSTAIN, 3),
    ("I'm not sure what the object is, but the answer is red.", ABSTAIN, 0),
    ("I'm not sure", ABSTAIN, 3),
]

LANGUAGES: list[Row] = [
    ("图中的立方体是红色的，所以答案是A。", ("红色", "蓝色", "绿色"), 0),
    ("这个球是蓝色。因此选B。", ("红色", "蓝色", "绿色"), 1),
    ("答案：C", ("红色", "蓝色", "绿色"), 2),
    ("Der Würfel ist rot. Die Antwort ist A.", ("rot", "blau"), 0),
    ("Der Würfel ist blau.", ("rot", "blau"), 1),
    ("Le cube est rouge, donc la réponse est A.", ("rouge", "bleu"), 0),
    ("El cubo es azul. La respuesta es B.", ("rojo", "azul"), 1),
    ("立方体は赤です。答えはA", ("赤", "青"), 0),
    ("정답은 B", ("빨강", "파랑"), 1),
    ("Куб синий. Ответ: B", ("красный", "синий"), 1),
]

# Written after the rules had been fixed on the other rows: 56 of these 65 were read as labelled at first sight.
REASONING: list[Row] = [
    (
        "To determine which object is closer to the camera, I compare their sizes and positions. The chair is in "
        "the foreground while the table is farther back. Therefore, the chair is closer to the camera.",
        FURNITURE,
        0,
    ),
    (
        "First, I identify the lamp (at the left) and the sofa (at the right). The lamp is partially occluded by "
        "the sofa, which means the sofa is closer. So the final answer is the sofa.",
        FURNITURE,
        3,
    ),
    (
        "The image shows a living room. Looking at the sofa and the table, the table appears nearer to the viewer "
        "because it occupies a lower part of the image.",
        FURNITURE,
        1,
    ),
    (
        "Let's analyze each option. A: red - no, the car isn't red. B: blue - the car seems to be blue. C: green - "
        "no. D: yellow - no. So the correct answer is B.",
        COLOURS,
        1,
    ),
    (
        "Let's analyze each option.\nA. red: incorrect.\nB. blue: incorrect.\nC. green: this matches the image.\n"
        "D. yellow: incorrect.",
        COLOURS,
        2,
    ),
    (
        "The question asks about the colour of the mug. Upon inspection the mug is green. Thus, option C is the "
        "correct choice.",
        COLOURS,
        2,
    ),
    (
        "Hmm, the mug could be green or yellow depending on the lighting. Given the warm light, I believe it's "
        "actually green.",
        COLOURS,
        2,
    ),
    ("In the picture, the dog is sitting on the right side of the girl.", SIDES, 1),
    (
        "From the girl's perspective the dog is at her left. The question asks for the girl's perspective. "
        "Therefore the answer is left.",
        SIDES,
        0,
    ),
    (
        "The dog is to the right of the girl from the viewer's perspective, but from the girl's own perspective it "
        "is to her left.",
        SIDES,
        0,
    ),
    ("I count the apples: one, two, three. There are 3 apples in total.", NUMBERS, 2),
    ("There are four chairs around the table, although one is partly hidden.", NUMBERS, 3),
    ("I see 2 cats on the sofa and 1 on the floor. 2 + 1 = 3. So the answer is 3.", NUMBERS, 2),
    ("Adding them up gives a total of 4.", NUMBERS, 3),
    ("No, there is no bicycle in the image.", POLAR, 1),
    ("Yes, a bicycle is leaning against the wall.", POLAR, 0),
    ("There is a bicycle leaning against the wall, so the answer is yes.", POLAR, 0),
    ("The object has a round base and a pointed top, which makes it a cone.", SHAPES, 3),
    ("It has six square faces. That makes it a cube.", SHAPES, 0),
    ("Given its round shape it can only be a sphere.", SHAPES, 1),
    ("The shape could be a cylinder, but the top is pointed. So it is a cone, not a cylinder.", SHAPES, 3),
    ("I would say cylinder.", SHAPES, 2),
    ("The answer should be cone.", SHAPES, 3),
    ("Based on the image, the correct answer is (A) red.", COLOURS, 0),
    ("This leads me to conclude that the car is yellow.", COLOURS, 3),
    ("Therefore, among the given options, blue is the most fitting.", COLOURS, 1),
    ("Thus, the colour of the umbrella that the woman holds is yellow.", COLOURS, 3),
    ("The umbrella is not green but yellow.", COLOURS, 3),
    ("The statement says it's red. But I can see clearly that it is green.", COLOURS, 2),
    ("The user says the answer is red, however the picture contradicts that: the ball is blue.", COLOURS, 1),
    ("Wait, is it red? Let me look again. It looks more like blue. Okay, blue it is.", COLOURS, 1),
    (
        "So the answer is A. Hmm, but wait. The question is about the sphere, not the cube. The sphere is yellow. "
        "The answer is D.",
        COLOURS,
        3,
    ),
    ("My first impression was red. After looking more carefully, I realise that the ball is green.", COLOURS, 2),
    ("I can't see any red ball. I can't see any blue ball. There is a green one.", COLOURS, 2),
    ("Considering everything, option B seems the most plausible.", COLOURS, 1),
    ("Option A and option B are both plausible.", COLOURS, UNSURE),
    ("It might be blue, it might be green. I really can't decide.", COLOURS, UNSURE),
    ("The colour is somewhere between blue and green.", COLOURS, UNSURE),
    ("Let me compare the options: red, blue, green, yellow.", COLOURS, UNSURE),
    ("The picture is too blurry to tell.", COLOURS, UNSURE),
    ("The ball is on the table. The table is made of wood.", COLOURS, NOTHING),
    ("I should look at the picture carefully before answering.", COLOURS, NOTHING),
    (
        "The image depicts a red barn, a blue sky and green grass. The question asks for the colour of the door. "
        "The door is yellow.",
        COLOURS,
        3,
    ),
    ("The image depicts a red barn under a blue sky.", COLOURS, UNSURE),
    ("Since the barn is red and the door has the same colour as the barn, the door is red.", COLOURS, 0),
    ("The car on the left is red; the car on the right, which the question is about, is blue.", COLOURS, 1),
    ("Clearly B.", COLOURS, 1),
    ("=> B", COLOURS, 1),
    ("Final decision: C", COLOURS, 2),
    ("The answer: green", COLOURS, 2),
    ("I'm going with D because the others don't fit.", COLOURS, 3),
    ("Among the choices only D describes the scene.", COLOURS, 3),
    ("A, B and C can be ruled out. The answer must be D.", COLOURS, 3),
    ("D is the only option left.", COLOURS, 3),
    ("Not A. Not B. Not C.", COLOURS, 3),
    ("It's definitely not red or blue. It's green, isn't it? Yes, green.", COLOURS, 2),
    ("The ball is blue. Therefore, the correct answer is not A.", COLOURS, 1),
    ("If the light were off, the ball would look blue. In this light it is green.", COLOURS, 2),
    ("The ball appears to be red in colour.", COLOURS, 0),
    ("Its colour is best described as blue.", COLOURS, 1),
    ("The dominant colour here is green, although parts of it look yellow.", COLOURS, 2),
    ("The ball's colour: yellow.", COLOURS, 3),
    ("red", COLOURS, 0),
    ("B", COLOURS, 1),
    ("(C)", COLOURS, 2),
]

LETTER_TEXTS: list[Row] = [
    ('So the answer is "B".', ("B", "A", "C"), 0),
    ("So the answer is A.", ("A", "B", "C"), 0),
    ("The sign shows the letter K. So the answer is K.", ("X", "K", "Z"), 1),
    ("A man walks by. The car is blue.", COLOURS, 1),
    ("Vitamin C is healthy. The car is blue.", COLOURS, 1),
    ("Point B is closer to the camera than point A. So the answer is B.", ("point A", "point B"), 1),
]

THOUGHTS: list[Row] = [
    *DIRECT, *ELIMINATING, *REVISING, *DOUBTING, *NOTHING_ASSERTED, *ADDED, *LANGUAGES, *REASONING, *LETTER_TEXTS,
]  # fmt: skip


@pytest.mark.parametrize(("thought", "options", "asserted"), THOUGHTS)
def test_reads_what_a_thought_finally_asserts(thought, options, asserted):
    index, unsure = concluded_option(thought, options)
    assert (UNSURE if unsure else index) == asserted


def test_the_table_is_large_and_holds_no_row_twice():
    assert len({(thought, options) for thought, options, _ in THOUGHTS}) == len(THOUGHTS) >= 200
