"""Which pictures of the icon set the world uses, and the plain nouns they go by."""

# icon names, each with its noun where that differs: those that look to the left, those that roll, the rest
LEFT = """
beaver bison blowfish=pufferfish butterfly camel cat chipmunk cow crocodile deer dog
dolphin donkey dove dragon duck eagle elephant ewe=sheep fish flamingo giraffe goat goose gorilla hedgehog
hippopotamus=hippo horse kangaroo leopard lizard llama mammoth monkey mouse parrot pig
rabbit rhinoceros=rhino rooster sauropod=dinosaur seal shark skunk sloth snail snake
squid swan tiger turkey turtle water-buffalo=buffalo whale zebra unicorn bird
ambulance articulated-lorry=lorry automobile=car bicycle bus delivery-truck=truck
fire-engine kick-scooter=scooter locomotive minibus=van motor-scooter=moped motorcycle
police-car racing-car speedboat sport-utility-vehicle=jeep taxi tractor helicopter roller-skate bullet-train=train
"""
ROUND = """
basketball volleyball soccer-ball=football baseball pool-8-ball=billiard-ball wheel doughnut=donut
cookie tangerine tomato peach coin globe-showing-americas=globe full-moon=moon kiwi-fruit=kiwi
ring-buoy=lifebuoy red-apple=apple melon
"""
OTHER = """
ant baby-chick=chick bat bear honeybee=bee beetle chicken crab cricket fly fox frog hamster jellyfish koala
lady-beetle=ladybug
lion lobster moose mosquito octopus owl panda peacock penguin polar-bear raccoon scorpion shrimp spider wolf worm
bouquet cactus cherry-blossom=blossom deciduous-tree=tree evergreen-tree=pine-tree four-leaf-clover=clover
hibiscus=flower maple-leaf=leaf palm-tree potted-plant=plant rose sunflower tulip
seedling=sprout mushroom coral feather spiral-shell=shell nest-with-eggs=nest
amphora=vase avocado baguette-bread=baguette banana beer-mug=beer bell-pepper=pepper
birthday-cake=cake blueberries=blueberry bread broccoli bubble-tea butter candy carrot
cheese-wedge=cheese cherries=cherry chestnut chocolate-bar=chocolate
croissant cucumber cup-with-straw=cup cupcake ear-of-corn=corn
egg eggplant garlic glass-of-milk=milk grapes=grape hamburger=burger
honey-pot hot-beverage=coffee hot-dog hot-pepper=chili ice=ice-cube ice-cream leafy-green=lettuce lemon
lollipop mango olive onion pancakes=pancake pear peanuts=peanut pineapple pizza popcorn
potato pretzel sandwich spoon strawberry sushi
taco teapot waffle watermelon wine-glass=wine cooking=pan
american-football=rugby-ball artist-palette=palette balloon boxing-glove christmas-tree
game-die=die kite jack-o-lantern=pumpkin puzzle-piece=puzzle ribbon teddy-bear trophy wrapped-gift=gift
sports-medal=medal video-game=gamepad yo-yo
accordion axe backpack basket bathtub battery bed bell blue-book=book briefcase broom bucket camera candle chair
crayon crown dagger=sword desktop-computer=computer door dress drum
envelope=letter fire-extinguisher flashlight gear gem-stone=gem graduation-cap=cap guitar hammer
handbag hiking-boot=boot hook key keyboard ladder laptop light-bulb lipstick
locked=lock magnet magnifying-glass-tilted-left=magnifier mans-shoe=shoe
maracas=maraca megaphone microphone microscope military-helmet=helmet moai=statue mobile-phone=phone
money-bag package=box paintbrush pencil pill printer purse radio
running-shoe=sneaker saxophone scarf screwdriver shield shopping-bags=bag shopping-cart=cart
socks=sock t-shirt=shirt telephone telescope television toilet toothbrush
top-hat=hat trumpet umbrella violin womans-hat=sun-hat wrench coat gloves=glove
airplane=plane alarm-clock anchor canoe castle church circus-tent=circus cloud couch-and-lamp=sofa
crescent-moon droplet=drop factory ferris-wheel fire flying-saucer=ufo fountain fuel-pump
hourglass-done=hourglass house hut luggage=suitcase mountain oil-drum=barrel
parachute playground-slide=slide rainbow ringed-planet=planet rock rocket sailboat ship skateboard
snowflake snowman-without-snow=snowman sun tent volcano watch wood=log alien-monster=alien ghost robot
skull clown-face=clown
"""


def nouns() -> tuple[str, ...]:
    """What the pictures go by."""
    return tuple(
        (word.partition("=")[2] or word).replace("-", " ") for word in f"{LEFT} {ROUND} {OTHER}".split()
    )
